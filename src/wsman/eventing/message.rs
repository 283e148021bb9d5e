//! Messages to sinks, and what sinks answer.

use crate::soap::{ANONYMOUS, action};
use crate::xml::Writer;
use crate::xml::{Element, Event, Ns, Reader, XmlError};

use super::operations::write_manager;
use super::sink::SinkReply;
use super::subscription::Subscription;
use super::terms::Address;

/// What stands in the header block of a message.
pub(super) struct Head<'a> {
    /// `a:Action`
    pub(super) action: &'a str,
    /// `a:MessageID`
    pub(super) message_id: &'a str,
    /// Where it goes.
    pub(super) to: &'a Address,
    /// `w:AckRequested`
    pub(super) acknowledge: bool,
    /// `w:Bookmark`
    pub(super) bookmark: Option<String>,
}

/// Writes a message.
pub(super) fn write(head: &Head<'_>, content: impl FnOnce(&mut Writer)) -> String {
    let mut w = Writer::with_capacity(4096);
    let namespaces = [
        ("xml:lang", "en-US"),
        ("xmlns:s", "http://www.w3.org/2003/05/soap-envelope"),
        ("xmlns:a", "http://schemas.xmlsoap.org/ws/2004/08/addressing"),
        ("xmlns:w", "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"),
        ("xmlns:e", "http://schemas.xmlsoap.org/ws/2004/08/eventing"),
    ];
    w.element_with("s:Envelope", &namespaces, |w| {
        w.element("s:Header", |w| {
            w.text_element("a:To", &head.to.url);
            w.text_element("a:Action", head.action);
            w.text_element("a:MessageID", head.message_id);
            w.element("a:ReplyTo", |w| w.text_element("a:Address", ANONYMOUS));
            if head.acknowledge {
                w.empty("w:AckRequested");
            }
            if let Some(bookmark) = &head.bookmark {
                w.text_element("w:Bookmark", bookmark);
            }
            w.raw(&head.to.parameters);
        });
        w.element("s:Body", content);
    });
    w.finish()
}

/// Writes the body of `e:SubscriptionEnd`.
pub(super) fn write_end(w: &mut Writer, subscription: &Subscription, status: &str, reason: &str) {
    w.element("e:SubscriptionEnd", |w| {
        w.element("e:SubscriptionManager", |w| write_manager(w, subscription));
        w.text_element("e:Status", &format!("http://schemas.xmlsoap.org/ws/2004/08/eventing/{status}"));
        w.element_with("e:Reason", &[("xml:lang", "en-US")], |w| w.text(reason));
    });
}

/// What the answer of a sink means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has the message.
    Received,
    /// It wants no more of them (`w:DeliveryRefused`, R10.8-1).
    Refused,
    /// It does not have it, or did not say so.
    Failed,
}

/// Judges the answer of a sink to a message with this identifier.
pub(super) fn judge(reply: &SinkReply, acknowledge: bool, message_id: &str) -> Verdict {
    let answer = Answer::read(&reply.body).unwrap_or_default();
    if answer.refused {
        return Verdict::Refused;
    }
    let well = (200..300).contains(&reply.status);
    let acknowledged =
        answer.action.as_deref() == Some(action::ACK) && answer.relates_to.as_deref() == Some(message_id);
    if well && (!acknowledge || acknowledged) { Verdict::Received } else { Verdict::Failed }
}

/// What is looked at in the answer of a sink.
#[derive(Default)]
struct Answer {
    action: Option<String>,
    relates_to: Option<String>,
    refused: bool,
}

impl Answer {
    fn read(text: &str) -> Result<Self, XmlError> {
        let mut answer = Self::default();
        let mut reader = Reader::new(text);
        match reader.next()? {
            Event::Start(envelope) if envelope.is(Ns::Soap, "Envelope") => {}
            _ => return Ok(answer),
        }
        while let Some(part) = reader.next_child()? {
            if part.is(Ns::Soap, "Header") {
                answer.read_header(&mut reader)?;
            } else if part.is(Ns::Soap, "Body") {
                answer.read_body(&mut reader)?;
            } else {
                reader.skip()?;
            }
        }
        Ok(answer)
    }

    fn read_header(&mut self, reader: &mut Reader<'_>) -> Result<(), XmlError> {
        while let Some(header) = reader.next_child()? {
            match (header.name().ns, header.local()) {
                (Ns::Addressing, "Action") => self.action = Some(reader.text_content()?.trim().to_owned()),
                (Ns::Addressing, "RelatesTo") => self.relates_to = Some(reader.text_content()?.trim().to_owned()),
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    fn read_body(&mut self, reader: &mut Reader<'_>) -> Result<(), XmlError> {
        while let Some(child) = reader.next_child()? {
            if child.is(Ns::Soap, "Fault") { self.read_fault(reader)? } else { reader.skip()? }
        }
        Ok(())
    }

    fn read_fault(&mut self, reader: &mut Reader<'_>) -> Result<(), XmlError> {
        let is = |element: &Element<'_>, local| element.is(Ns::Soap, local);
        while let Some(part) = reader.next_child()? {
            if !is(&part, "Code") {
                reader.skip()?;
                continue;
            }
            while let Some(code) = reader.next_child()? {
                if !is(&code, "Subcode") {
                    reader.skip()?;
                    continue;
                }
                while let Some(value) = reader.next_child()? {
                    if is(&value, "Value") {
                        let name = reader.text_content()?;
                        self.refused |= name.trim().rsplit(':').next() == Some("DeliveryRefused");
                    } else {
                        reader.skip()?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, header: &str, body: &str) -> SinkReply {
        let body = format!(
            r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"#
        );
        SinkReply { status, body }
    }

    #[test]
    fn answers_of_sinks_are_judged() {
        let ack = format!("<a:Action>{}</a:Action><a:RelatesTo>uuid:1</a:RelatesTo>", action::ACK);
        let refusal = "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:DeliveryRefused</s:Value></s:Subcode></s:Code></s:Fault>";
        let empty = |status| SinkReply { status, body: String::new() };
        let broken = SinkReply { status: 200, body: "<s:Envelope".to_owned() };
        for (reply, acknowledge, verdict) in [
            (empty(200), false, Verdict::Received),
            (empty(204), false, Verdict::Received),
            (empty(202), true, Verdict::Failed),
            (empty(500), false, Verdict::Failed),
            (empty(302), false, Verdict::Failed),
            (broken.clone(), false, Verdict::Received),
            (broken, true, Verdict::Failed),
            (reply(200, &ack, ""), true, Verdict::Received),
            (reply(500, &ack, ""), true, Verdict::Failed),
            (reply(200, &ack.replace("uuid:1", "uuid:2"), ""), true, Verdict::Failed),
            (reply(200, "", ""), true, Verdict::Failed),
            (reply(500, "", refusal), true, Verdict::Refused),
            (reply(200, "", refusal), false, Verdict::Refused),
            (reply(500, "", &refusal.replace("DeliveryRefused", "InternalError")), false, Verdict::Failed),
        ] {
            assert_eq!(judge(&reply, acknowledge, "uuid:1"), verdict, "{reply:?}");
        }
    }
}
