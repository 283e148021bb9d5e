//! One check under way: what it sends, what it expects, what comes.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use crate::client::{RawAnswer, RawRequest};
use crate::xml::Ns;

use super::answer::Answer;
use super::message::Message;
use super::subject::{Subject, soap_request};

/// The most of a message that a result keeps, in octets.
const KEPT: usize = 6000;

/// The most Pulls an enumeration is given to come to its end.
pub(super) const MAX_PULLS: usize = 5000;

/// Why a check ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The rule is broken.
    Fail(String),
    /// The documented fault for what is not offered came.
    NotOffered(String),
    /// The rule cannot be tried on this subject.
    NotApplicable(String),
}

/// The end of a check.
pub(super) type Checked = Result<(), Stop>;

/// A check: a future that borrows its case.
pub(super) type CheckFuture<'c> = Pin<Box<dyn Future<Output = Checked> + Send + 'c>>;

/// An exchange as the result shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// The request: method, path, headers that matter, body.
    pub sent: String,
    /// What the rule demands of the answer.
    pub expected: String,
    /// The answer: status and body.
    pub came: String,
}

/// A check under way.
pub(super) struct Case {
    /// The server.
    pub(super) subject: Arc<Subject>,
    /// The exchanges so far.
    pub(super) exchanges: Vec<Exchange>,
}

impl Case {
    pub(super) const fn new(subject: Arc<Subject>) -> Self {
        Self { subject, exchanges: Vec::new() }
    }

    /// Sends bytes; no answer at all is a failure.
    pub(super) async fn raw(&mut self, request: &RawRequest) -> Result<Answer, Stop> {
        let answered = self.subject.send(request).await;
        self.note(request, answered)
    }

    /// Sends bytes as another user.
    pub(super) async fn raw_as(
        &mut self,
        client: &crate::client::RawClient,
        request: &RawRequest,
    ) -> Result<Answer, Stop> {
        let answered = client.send(request).await.map_err(|error| error.to_string());
        self.note(request, answered)
    }

    fn note(&mut self, request: &RawRequest, answered: Result<RawAnswer, String>) -> Result<Answer, Stop> {
        let sent = shown_request(request);
        match answered {
            Ok(answer) => {
                let answer = Answer::new(answer);
                self.subject.note_message_id(&answer);
                self.exchanges.push(Exchange { sent, expected: String::new(), came: cut(&answer.shown()) });
                Ok(answer)
            }
            Err(error) => {
                let expected = "an answer".to_owned();
                self.exchanges.push(Exchange { sent, expected, came: error.clone() });
                Err(Stop::Fail(format!("no answer: {error}")))
            }
        }
    }

    /// Shows the last exchange, which was sealed, as it is in the clear.
    pub(super) fn unsealed(&mut self, sent: &str, answer: &Answer) {
        if let Some(last) = self.exchanges.last_mut() {
            let head = last.sent.split("\n\n").next().unwrap_or_default().to_owned();
            last.sent = format!("{head}\n\n(unsealed) {}", cut(sent));
            last.came = cut(&format!("(unsealed) {}", answer.shown()));
        }
    }

    /// Notes an exchange that was made by other means.
    pub(super) fn shown(&mut self, request: &RawRequest, came: &str) {
        self.exchanges.push(Exchange { sent: shown_request(request), expected: String::new(), came: cut(came) });
    }

    /// Sends an envelope.
    pub(super) async fn send(&mut self, message: &Message) -> Result<Answer, Stop> {
        let text = message.text(&self.subject.new_id());
        self.raw(&soap_request(&text)).await
    }

    /// Sends an envelope without keeping what was sent and what came; for many of one kind.
    pub(super) async fn send_quietly(&mut self, message: &Message) -> Result<Answer, Stop> {
        let answer = self.send(message).await?;
        self.exchanges.pop();
        Ok(answer)
    }

    /// Sends an envelope as another user.
    pub(super) async fn send_as(
        &mut self,
        client: &crate::client::RawClient,
        message: &Message,
    ) -> Result<Answer, Stop> {
        let text = message.text(&self.subject.new_id());
        self.raw_as(client, &soap_request(&text)).await
    }

    /// Says what the rule demands of the last answer; the check ends when it is not so.
    pub(super) fn that(&mut self, holds: bool, expected: impl Into<String>) -> Checked {
        let expected = expected.into();
        if let Some(last) = self.exchanges.last_mut() {
            if !last.expected.is_empty() {
                last.expected.push_str("; ");
            }
            last.expected.push_str(&expected);
        }
        if holds { Ok(()) } else { Err(Stop::Fail(format!("expected {expected}"))) }
    }

    /// Sends an envelope that has to succeed.
    pub(super) async fn ok(&mut self, message: &Message) -> Result<Answer, Stop> {
        let answer = self.send(message).await?;
        let good = answer.status == 200 && !answer.is_fault() && answer.tree.is_some();
        self.that(good, "HTTP 200 with an envelope that is no fault")?;
        Ok(answer)
    }

    /// Sends an envelope that has to succeed, unless the operation as a whole is not offered.
    pub(super) async fn offered(&mut self, message: &Message) -> Result<Answer, Stop> {
        let answer = self.send(message).await?;
        self.offered_or(&answer)?;
        let good = answer.status == 200 && !answer.is_fault() && answer.tree.is_some();
        self.that(good, "HTTP 200 with an envelope that is no fault")?;
        Ok(answer)
    }

    /// Ends the check when the answer is the fault for an operation that is not offered.
    pub(super) fn offered_or(&mut self, answer: &Answer) -> Checked {
        if answer.has_fault("a:ActionNotSupported", None) {
            let fault = answer.fault_text();
            self.that(true, "the operation, or the fault that it is not offered").ok();
            return Err(Stop::NotOffered(fault));
        }
        Ok(())
    }

    /// Sends an envelope that has to be answered with a fault.
    pub(super) async fn fault(
        &mut self,
        message: &Message,
        subcode: &str,
        detail: Option<&str>,
    ) -> Result<Answer, Stop> {
        let answer = self.send(message).await?;
        self.is_fault(&answer, subcode, detail)?;
        Ok(answer)
    }

    /// Sends an envelope that has to be answered with one of some faults.
    pub(super) async fn fault_of(&mut self, message: &Message, any: &[(&str, Option<&str>)]) -> Result<Answer, Stop> {
        let answer = self.send(message).await?;
        let holds = any.iter().any(|(subcode, detail)| answer.has_fault(subcode, *detail));
        let names: Vec<String> = any.iter().map(|(subcode, detail)| fault_name(subcode, *detail)).collect();
        self.that(holds, format!("the fault {}", names.join(" or ")))?;
        Ok(answer)
    }

    /// Whether an answer is a certain fault.
    pub(super) fn is_fault(&mut self, answer: &Answer, subcode: &str, detail: Option<&str>) -> Checked {
        self.that(answer.has_fault(subcode, detail), format!("the fault {}", fault_name(subcode, detail)))
    }

    /// Opens an enumeration that is not optimised; gives the context.
    pub(super) async fn open(&mut self, message: &Message) -> Result<String, Stop> {
        let answer = self.ok(message).await?;
        let context = answer.context();
        self.that(!context.is_empty(), "an enumeration context")?;
        Ok(context)
    }

    /// The items of an optimised enumeration that fits into one answer, pulled to its end if it does not.
    pub(super) async fn items(&mut self, message: &Message) -> Result<Vec<super::node::Node>, Stop> {
        let answer = self.ok(message).await?;
        let mut items = answer.items();
        let mut context = answer.context();
        for _ in 0..MAX_PULLS {
            if context.is_empty() {
                return Ok(items);
            }
            let pull = Message::pull(
                message.resource.clone().unwrap_or_default(),
                &context,
                "<n:MaxElements>1000</n:MaxElements>",
            );
            let answer = self.ok(&pull).await?;
            items.extend(answer.items());
            context = answer.context();
        }
        self.that(false, format!("the end of the enumeration after {MAX_PULLS} Pulls")).map(|()| items)
    }
}

fn fault_name(subcode: &str, detail: Option<&str>) -> String {
    detail.map_or_else(|| subcode.to_owned(), |detail| format!("{subcode} with {detail}"))
}

fn shown_request(request: &RawRequest) -> String {
    let mut head = format!("{} {}", request.method, request.path.as_deref().unwrap_or("/wsman"));
    for (name, value) in &request.headers {
        // A token tells whoever reads a report what he needs to try passwords.
        let secret = name.eq_ignore_ascii_case("Authorization");
        let value = if secret { value.split(' ').next().unwrap_or_default() } else { value };
        // Writing to a String cannot fail.
        let _ = write!(head, "\n{name}: {value}{}", if secret { " …" } else { "" });
    }
    if !request.credentials {
        head.push_str("\n(without credentials)");
    }
    cut(&format!("{head}\n\n{}", String::from_utf8_lossy(&request.body)))
}

/// What is kept of a message.
fn cut(text: &str) -> String {
    if text.len() <= KEPT {
        return text.to_owned();
    }
    let mut end = KEPT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} octets in all)", text.get(..end).unwrap_or_default(), text.len())
}

/// Whether a header of an answer is there.
pub(super) fn has_header(answer: &Answer, ns: Ns<'_>, local: &str) -> bool {
    answer.header_nodes().iter().any(|node| node.is(ns, local))
}
