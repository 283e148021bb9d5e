//! Reading answers.

use crate::binding::decode_reference;
use crate::soap::Envelope;
use crate::xml::{Element, Fragment, Ns, Reader, XmlError};

use super::error::{ClientError, FaultAnswer};
use super::object::{self, Object};

/// The first child of the body; a fault becomes the error.
pub(super) fn body(text: &str) -> Result<Option<Fragment<'_>>, ClientError> {
    let envelope = Envelope::parse(text).map_err(|fault| {
        ClientError::Fault(FaultAnswer {
            code: "malformed answer".to_owned(),
            reason: fault.reason,
            ..FaultAnswer::default()
        })
    })?;
    if let Some(body) = &envelope.body {
        let (mut reader, element) = body.open()?;
        if element.is(Ns::Soap, "Fault") {
            return Err(ClientError::Fault(fault(&mut reader)?));
        }
    }
    Ok(envelope.body)
}

fn fault<'a>(reader: &mut Reader<'a>) -> Result<FaultAnswer, XmlError> {
    let mut answer = FaultAnswer::default();
    walk(reader, &mut |element: &Element<'a>, text: &str| match element.local() {
        // The innermost code comes last.
        "Value" => local(text).clone_into(&mut answer.code),
        "Text" => text.trim().clone_into(&mut answer.reason),
        "FaultDetail" => answer.detail = text.trim().rsplit('/').next().map(str::to_owned),
        "WSManFault" => {
            answer.wsman_code = element.attribute(Ns::None, "Code").and_then(|code| code.trim().parse().ok());
        }
        _ => {}
    })?;
    Ok(answer)
}

/// Hands every element below the one that was started last to `visit`, with its own text.
fn walk<'a>(reader: &mut Reader<'a>, visit: &mut impl FnMut(&Element<'a>, &str)) -> Result<(), XmlError> {
    use crate::xml::Event;
    let mut open: Vec<(Element<'a>, String)> = Vec::new();
    loop {
        match reader.next()? {
            Event::Start(element) => open.push((element, String::new())),
            Event::Text(text) => {
                if let Some((_, content)) = open.last_mut() {
                    content.push_str(&text);
                }
            }
            Event::End => match open.pop() {
                Some((element, content)) => visit(&element, &content),
                None => return Ok(()),
            },
            Event::Eof => return Ok(()),
        }
    }
}

fn local(name: &str) -> &str {
    let name = name.trim();
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// One step of an enumeration.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) objects: Vec<Object>,
    /// The context for the next Pull; `None` when that was all.
    pub(super) context: Option<String>,
}

/// Reads the answer to Enumerate or Pull.
pub(super) fn batch(fragment: &Fragment<'_>) -> Result<Batch, ClientError> {
    let (mut reader, _) = fragment.open()?;
    let mut batch = Batch::default();
    let mut ended = false;
    while let Some(child) = reader.next_child()? {
        match child.local() {
            "EnumerationContext" => {
                let context = reader.text_content()?.trim().to_owned();
                batch.context = Some(context).filter(|context| !context.is_empty());
            }
            "Items" => {
                while let Some(item) = reader.next_child()? {
                    let item = reader.fragment(&item)?;
                    batch.objects.push(object(&item)?);
                }
            }
            "EndOfSequence" => {
                ended = true;
                reader.skip()?;
            }
            _ => reader.skip()?,
        }
    }
    if ended {
        batch.context = None;
    }
    Ok(batch)
}

/// Reads an item: an instance, or a `w:Item` with instance and reference.
fn object(item: &Fragment<'_>) -> Result<Object, ClientError> {
    let (mut reader, element) = item.open()?;
    if !element.is(Ns::Wsman, "Item") {
        return Ok(Object { path: None, instance: object::read(item)? });
    }
    let mut path = None;
    let mut instance = None;
    while let Some(child) = reader.next_child()? {
        let part = reader.fragment(&child)?;
        if child.is(Ns::Addressing, "EndpointReference") {
            path = decode_reference(&part).ok();
        } else {
            instance = Some(object::read(&part)?);
        }
    }
    Ok(Object { path, instance: instance.ok_or(ClientError::Incomplete("instance in an item"))? })
}
