//! The header block: what is there, not yet judged.

use std::borrow::Cow;

use crate::xml::{Element, Event, Fragment, Ns, Reader, XmlError};

use super::reference::{ReferenceError, SelectorSet, trimmed};

/// Most options in a set (`ws-management.md` §18, C048).
const MAX_OPTIONS: usize = 256;

/// The headers of a message. Texts are trimmed, except `message_id`, which is echoed as it came.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    /// `a:To`
    pub to: Option<Cow<'a, str>>,
    /// `a:Action`
    pub action: Option<Cow<'a, str>>,
    /// `a:MessageID`, byte for byte
    pub message_id: Option<Cow<'a, str>>,
    /// `a:ReplyTo`
    pub reply_to: Option<Endpoint<'a>>,
    /// `a:FaultTo`
    pub fault_to: Option<Endpoint<'a>>,
    /// `w:ResourceURI`
    pub resource_uri: Option<Cow<'a, str>>,
    /// `w:SelectorSet`, or why it cannot be read
    pub selectors: Option<Result<SelectorSet<'a>, ReferenceError>>,
    /// `w:OptionSet`
    pub options: Option<OptionSet<'a>>,
    /// `w:MaxEnvelopeSize`
    pub max_envelope_size: Option<MaxEnvelopeSizeHeader<'a>>,
    /// `w:OperationTimeout`
    pub operation_timeout: Option<Cow<'a, str>>,
    /// `w:Locale`
    pub locale: Option<LanguageHeader<'a>>,
    /// `p:DataLocale`
    pub data_locale: Option<LanguageHeader<'a>>,
    /// `p:ActivityId`
    pub activity_id: Option<Cow<'a, str>>,
    /// `w:FragmentTransfer`
    pub fragment_transfer: Option<FragmentTransfer<'a>>,
    /// `w:RequestTotalItemsCountEstimate`
    pub request_total_items_count_estimate: bool,
    /// `e:Identifier`: the subscription that is meant
    pub identifier: Option<Cow<'a, str>>,
    /// Headers marked mustUnderstand that nobody knows: namespace and local name.
    pub not_understood: Vec<(String, String)>,
    /// The first thing wrong with the block as a whole.
    pub problem: Option<HeaderProblem>,
}

/// What is wrong with the header block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// A header of the WS-Management, WS-Addressing or WS-Eventing namespaces is there twice.
    #[error("header {0} is there more than once")]
    Duplicate(String),
    /// A header that holds text has elements inside.
    #[error("header {0} holds elements where text is expected")]
    NotText(String),
}

/// `a:ReplyTo` or `a:FaultTo`.
#[derive(Clone, Debug, Default)]
pub struct Endpoint<'a> {
    /// `a:Address`, trimmed
    pub address: Cow<'a, str>,
    /// Reference parameters and properties, which come back as headers of the answer.
    pub reference_parameters: Vec<Fragment<'a>>,
}

/// `w:MaxEnvelopeSize`
#[derive(Clone, Debug)]
pub struct MaxEnvelopeSizeHeader<'a> {
    /// The text, trimmed.
    pub octets: Cow<'a, str>,
    /// Whether `@Policy` is `Skip`.
    pub skip: bool,
}

/// `w:Locale` or `p:DataLocale`
#[derive(Clone, Debug)]
pub struct LanguageHeader<'a> {
    /// `@xml:lang`
    pub language: Option<Cow<'a, str>>,
    /// `@s:mustUnderstand`
    pub must_understand: bool,
}

/// `w:FragmentTransfer`
#[derive(Clone, Debug)]
pub struct FragmentTransfer<'a> {
    /// The expression, trimmed.
    pub expression: Cow<'a, str>,
    /// `@Dialect`, trimmed.
    pub dialect: Option<String>,
    /// `@s:mustUnderstand`
    pub must_understand: bool,
}

/// `w:OptionSet`
#[derive(Clone, Debug, Default)]
pub struct OptionSet<'a> {
    /// The options, in order; names may repeat.
    pub options: Vec<OptionHeader<'a>>,
    /// `@s:mustUnderstand`
    pub must_understand: bool,
    /// There were more options than the limit.
    pub too_many: bool,
}

/// `w:Option`. `@Type` is not read: clients send prefixes nobody declares.
#[derive(Clone, Debug)]
pub struct OptionHeader<'a> {
    /// `@Name`; empty when it is missing.
    pub name: String,
    /// The text; `None` for nil.
    pub value: Option<Cow<'a, str>>,
    /// `@MustComply`
    pub must_comply: bool,
}

impl OptionSet<'_> {
    /// The value of the last option of that name, in any case.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|option| option.name.eq_ignore_ascii_case(name))?.value.as_deref()
    }
}

impl<'a> Headers<'a> {
    /// Reads the children of `s:Header`, whose start was just read, its end included.
    ///
    /// # Errors
    /// [`XmlError`]; everything else is kept in the answer.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, XmlError> {
        let mut headers = Self::default();
        while let Some(element) = reader.next_child()? {
            headers.read_one(reader, &element)?;
        }
        Ok(headers)
    }

    pub(super) fn read_one(&mut self, reader: &mut Reader<'a>, element: &Element<'a>) -> Result<(), XmlError> {
        match element.name().ns {
            Ns::Addressing => self.read_addressing(reader, element),
            Ns::Wsman => self.read_wsman(reader, element),
            Ns::MsWsman => self.read_microsoft(reader, element),
            Ns::Eventing if element.local() == "Identifier" => {
                let identifier = trimmed(text(reader, element, &mut self.problem)?);
                let twice = put(&mut self.identifier, identifier);
                self.note_duplicate(twice, "e:", element);
                Ok(())
            }
            _ => self.read_unknown(reader, element),
        }
    }

    fn read_addressing(&mut self, reader: &mut Reader<'a>, element: &Element<'a>) -> Result<(), XmlError> {
        let twice = match element.local() {
            "To" => put(&mut self.to, trimmed(text(reader, element, &mut self.problem)?)),
            "Action" => put(&mut self.action, trimmed(text(reader, element, &mut self.problem)?)),
            "MessageID" => put(&mut self.message_id, text(reader, element, &mut self.problem)?),
            "ReplyTo" => put(&mut self.reply_to, endpoint(reader, &mut self.problem)?),
            "FaultTo" => put(&mut self.fault_to, endpoint(reader, &mut self.problem)?),
            "From" | "RelatesTo" => return reader.skip(),
            _ => return self.read_unknown(reader, element),
        };
        self.note_duplicate(twice, "a:", element);
        Ok(())
    }

    fn read_wsman(&mut self, reader: &mut Reader<'a>, element: &Element<'a>) -> Result<(), XmlError> {
        let twice = match element.local() {
            "ResourceURI" => put(&mut self.resource_uri, trimmed(text(reader, element, &mut self.problem)?)),
            "SelectorSet" => put(&mut self.selectors, selectors(reader, element)?),
            "OptionSet" => put(&mut self.options, options(reader, element, &mut self.problem)?),
            "MaxEnvelopeSize" => {
                let skip = element.attribute(Ns::None, "Policy").is_some_and(|policy| policy.trim() == "Skip");
                let octets = trimmed(text(reader, element, &mut self.problem)?);
                put(&mut self.max_envelope_size, MaxEnvelopeSizeHeader { octets, skip })
            }
            "OperationTimeout" => put(&mut self.operation_timeout, trimmed(text(reader, element, &mut self.problem)?)),
            "Locale" => put(&mut self.locale, language(reader, element)?),
            "FragmentTransfer" => {
                let must_understand = must_understand(element);
                let dialect = element.attribute(Ns::None, "Dialect").map(|dialect| dialect.trim().to_owned());
                let expression = trimmed(text(reader, element, &mut self.problem)?);
                put(&mut self.fragment_transfer, FragmentTransfer { expression, dialect, must_understand })
            }
            "RequestTotalItemsCountEstimate" => {
                let twice = std::mem::replace(&mut self.request_total_items_count_estimate, true);
                reader.skip()?;
                twice
            }
            // RequestEPR is ignored, as Windows does; with mustUnderstand it is one of the unknown ones (C049).
            _ => return self.read_unknown(reader, element),
        };
        self.note_duplicate(twice, "w:", element);
        Ok(())
    }

    fn read_microsoft(&mut self, reader: &mut Reader<'a>, element: &Element<'a>) -> Result<(), XmlError> {
        match element.local() {
            "DataLocale" => {
                put(&mut self.data_locale, language(reader, element)?);
                Ok(())
            }
            "ActivityId" => {
                let activity_id = text(reader, element, &mut self.problem)?;
                put(&mut self.activity_id, activity_id);
                Ok(())
            }
            // Without robust connections these are ignored, marked or not (`ws-management.md` §17).
            "SessionId" | "OperationID" | "SequenceId" => reader.skip(),
            _ => self.read_unknown(reader, element),
        }
    }

    fn read_unknown(&mut self, reader: &mut Reader<'a>, element: &Element<'a>) -> Result<(), XmlError> {
        if must_understand(element) && is_for_us(element) {
            self.not_understood.push((element.name().ns.uri().to_owned(), element.local().to_owned()));
        }
        reader.skip()
    }

    fn note_duplicate(&mut self, twice: bool, prefix: &str, element: &Element<'_>) {
        if twice && self.problem.is_none() {
            self.problem = Some(HeaderProblem::Duplicate(format!("{prefix}{}", element.local())));
        }
    }
}

/// Stores a header; true when it was there already.
fn put<T>(slot: &mut Option<T>, value: T) -> bool {
    slot.replace(value).is_some()
}

/// `s:mustUnderstand` is `true` or `1`. The attribute without the SOAP namespace, which pywinrm,
/// Ruby, Go and Node send (`clients.md` part 3 item 2), is another one and is ignored.
fn must_understand(element: &Element<'_>) -> bool {
    element.flag(Ns::Soap, "mustUnderstand")
}

/// Whether a header is aimed at the ultimate receiver (SOAP 1.2 §2.2).
fn is_for_us(element: &Element<'_>) -> bool {
    element.attribute(Ns::Soap, "role").is_none_or(|role| {
        let role = role.trim();
        role.is_empty() || role.ends_with("/role/ultimateReceiver") || role.ends_with("/role/next")
    })
}

/// The text of a header up to its end; elements inside are skipped and noted.
fn text<'a>(
    reader: &mut Reader<'a>,
    element: &Element<'a>,
    problem: &mut Option<HeaderProblem>,
) -> Result<Cow<'a, str>, XmlError> {
    let mut content = Cow::Borrowed("");
    loop {
        match reader.next()? {
            Event::Text(piece) if content.is_empty() => content = piece,
            Event::Text(piece) => content.to_mut().push_str(&piece),
            Event::Start(_) => {
                problem.get_or_insert_with(|| HeaderProblem::NotText(element.local().to_owned()));
                reader.skip()?;
            }
            Event::End | Event::Eof => return Ok(content),
        }
    }
}

fn endpoint<'a>(reader: &mut Reader<'a>, problem: &mut Option<HeaderProblem>) -> Result<Endpoint<'a>, XmlError> {
    let mut endpoint = Endpoint::default();
    while let Some(child) = reader.next_child()? {
        match (child.name().ns, child.local()) {
            (Ns::Addressing, "Address") => endpoint.address = trimmed(text(reader, &child, problem)?),
            (Ns::Addressing, "ReferenceParameters" | "ReferenceProperties") => {
                while let Some(parameter) = reader.next_child()? {
                    endpoint.reference_parameters.push(reader.fragment(&parameter)?);
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(endpoint)
}

/// Reads a selector set from a fragment of its own, so that what is wrong inside does not derail the rest.
fn selectors<'a>(
    reader: &mut Reader<'a>,
    element: &Element<'a>,
) -> Result<Result<SelectorSet<'a>, ReferenceError>, XmlError> {
    let fragment = reader.fragment(element)?;
    let (mut inner, _) = fragment.open()?;
    Ok(SelectorSet::read(&mut inner))
}

fn options<'a>(
    reader: &mut Reader<'a>,
    element: &Element<'a>,
    problem: &mut Option<HeaderProblem>,
) -> Result<OptionSet<'a>, XmlError> {
    let mut set = OptionSet { must_understand: must_understand(element), ..OptionSet::default() };
    while let Some(child) = reader.next_child()? {
        if !child.is(Ns::Wsman, "Option") {
            reader.skip()?;
            continue;
        }
        let name = child.attribute(Ns::None, "Name").unwrap_or_default().to_owned();
        let must_comply = child.flag(Ns::None, "MustComply");
        let content = text(reader, &child, problem)?;
        let value = if child.is_nil() { None } else { Some(content) };
        if set.options.len() < MAX_OPTIONS {
            set.options.push(OptionHeader { name, value, must_comply });
        } else {
            set.too_many = true;
        }
    }
    Ok(set)
}

fn language<'a>(reader: &mut Reader<'a>, element: &Element<'a>) -> Result<LanguageHeader<'a>, XmlError> {
    let language = element.attribute(Ns::Xml, "lang").map(|language| Cow::Owned(language.to_owned()));
    reader.skip()?;
    Ok(LanguageHeader { language, must_understand: must_understand(element) })
}
