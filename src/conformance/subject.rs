//! The server under test: how it is reached, what the profile says of it, and what was found on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::client::{ClientError, ClientOptions, RawAnswer, RawClient, RawRequest};
use crate::soap::ANONYMOUS;
use crate::time::IdSource;

use super::answer::Answer;
use super::message::{CONFIG, Message, TRANSFER, WQL, escaped, filter, selector};
use super::node::Node;
use super::profile::{Account, Profile};

/// The name of everything the suite makes.
pub(super) const MARK: &str = "wsnapd-conformance";
/// The media type of envelopes.
pub(super) const MEDIA_TYPE: &str = "application/soap+xml;charset=UTF-8";

/// An instance that was found: how it is addressed and what it looked like.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Its resource URI.
    pub(super) resource: String,
    /// Its selectors, `__cimnamespace` included if the server sent it.
    pub(super) selectors: Vec<(String, String)>,
    /// Its properties.
    pub(super) node: Node,
}

impl Found {
    /// Reads a `w:Item` with object and reference, or a bare reference.
    pub(super) fn read(item: &Node) -> Option<Self> {
        let (reference, node) = match item.child("EndpointReference") {
            Some(reference) => {
                let instance = item.children.iter().find(|child| child.local != "EndpointReference");
                (reference, instance.cloned().unwrap_or_default())
            }
            None => (item, Node::default()),
        };
        Self::of_reference(reference, node)
    }

    /// Reads the children of an element that holds a reference.
    pub(super) fn of_reference(reference: &Node, node: Node) -> Option<Self> {
        let parameters = reference.child("ReferenceParameters")?;
        let selectors = parameters.child("SelectorSet").map_or(&[][..], |set| &set.children);
        let selectors = selectors.iter().filter_map(|selector| {
            let name = selector.attribute(crate::xml::Ns::None, "Name")?;
            Some((name.to_owned(), selector.text.clone()))
        });
        Some(Self { resource: parameters.text_at("ResourceURI").to_owned(), selectors: selectors.collect(), node })
    }

    /// The selectors that are keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &(String, String)> {
        self.selectors.iter().filter(|(name, _)| !name.starts_with("__"))
    }

    /// The selectors as XML.
    pub(super) fn selector_xml(&self) -> String {
        self.selectors.iter().map(|(name, value)| selector(name, value)).collect()
    }

    /// A reference to it: the children of the element that holds it.
    pub(super) fn reference(&self) -> String {
        format!(
            "<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{}</w:ResourceURI>\
             <w:SelectorSet>{}</w:SelectorSet></a:ReferenceParameters>",
            escaped(&self.resource),
            self.selector_xml()
        )
    }

    /// Get of it.
    pub(super) fn get(&self) -> Message {
        Message::get(&self.resource).select(self.selector_xml())
    }

    /// Another operation of WS-Transfer on it.
    pub(super) fn transfer(&self, operation: &str, body: &str) -> Message {
        self.get().with(|message| message.action = Some(format!("{TRANSFER}/{operation}"))).body(body)
    }

    /// A method of it.
    pub(super) fn invoke(&self, method: &str, input: &str) -> Message {
        Message::new(format!("{}/{method}", self.resource), &self.resource)
            .select(self.selector_xml())
            .body(format!("<r:{method}_INPUT xmlns:r=\"{}\">{input}</r:{method}_INPUT>", escaped(&self.resource)))
    }

    /// The text of a property.
    pub(super) fn property(&self, name: &str) -> &str {
        self.node.text_at(name)
    }
}

/// The server under test.
pub(super) struct Subject {
    pub(super) profile: Profile,
    pub(super) options: ClientOptions,
    client: RawClient,
    ids: Arc<dyn IdSource>,
    /// The instances of `cim.class` to work with.
    pub(super) instances: Vec<Found>,
    /// The instance of `method.class`.
    pub(super) service: Option<Found>,
    /// `winrm/config`, if the server shows it.
    config: Option<Node>,
    /// Every message identifier of the server, folded to lower case, and how often it came.
    message_ids: Mutex<HashMap<String, usize>>,
}

/// A POST of an envelope in UTF-8.
pub(super) fn soap_request(text: &str) -> RawRequest {
    RawRequest {
        method: "POST",
        path: None,
        headers: vec![("Content-Type".to_owned(), MEDIA_TYPE.to_owned())],
        body: Bytes::from(text.to_owned()),
        credentials: true,
    }
}

/// The same without credentials.
pub(super) fn anonymous(text: &str, path: Option<&str>) -> RawRequest {
    RawRequest { credentials: false, path: path.map(str::to_owned), ..soap_request(text) }
}

impl Subject {
    /// Connects and looks for what the profile names.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not let the user in.
    pub(super) async fn open(
        options: ClientOptions,
        profile: Profile,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, ClientError> {
        let client = RawClient::new(&options)?;
        let mut subject = Self {
            profile,
            options,
            client,
            ids,
            instances: Vec::new(),
            service: None,
            config: None,
            message_ids: Mutex::default(),
        };
        let identify = subject.client.send(&soap_request(super::message::IDENTIFY)).await?;
        match identify.status {
            401 => return Err(ClientError::Unauthorized),
            403 => return Err(ClientError::Forbidden),
            _ => {}
        }
        let query = subject.query(&subject.profile.cim.query);
        subject.instances = subject.found(&query).await;
        let uri = subject.class_uri(&subject.profile.method.class);
        subject.service = subject.found(&Message::list(uri, 10, EPR_TOO)).await.into_iter().next();
        subject.config = subject.quiet(&Message::get(CONFIG)).await.and_then(|answer| answer.body().cloned());
        Ok(subject)
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: &RawRequest) -> Result<RawAnswer, String> {
        self.client.send(request).await.map_err(|error| chain(&error))
    }

    /// The client, for what is below HTTP.
    pub(super) const fn client(&self) -> &RawClient {
        &self.client
    }

    /// Sends an envelope that is no part of a check; `None` when there is no good answer.
    pub(super) async fn quiet(&self, message: &Message) -> Option<Answer> {
        let answer = self.send(&soap_request(&message.text(&self.new_id()))).await.ok()?;
        let answer = Answer::new(answer);
        (answer.status == 200 && !answer.is_fault()).then_some(answer)
    }

    /// The instances an optimised enumeration brings with their references.
    pub(super) async fn found(&self, message: &Message) -> Vec<Found> {
        let answer = self.quiet(message).await;
        answer.map_or_else(Vec::new, |answer| answer.items().iter().filter_map(Found::read).collect())
    }

    /// A WQL query to all classes of the namespace.
    pub(super) fn query(&self, wql: &str) -> Message {
        let inner = format!("{}{EPR_TOO}", filter(WQL, &escaped(wql)));
        Message::list(self.class_uri("*"), 1000, &inner)
    }

    /// Remembers the message identifier of an answer.
    pub(super) fn note_message_id(&self, answer: &Answer) {
        let id = answer.text_at("Header/MessageID");
        if !id.is_empty() {
            let mut known = self.message_ids.lock().unwrap_or_else(PoisonError::into_inner);
            *known.entry(id.to_lowercase()).or_default() += 1;
        }
    }

    /// How many message identifiers came, and one that came twice.
    pub(super) fn message_ids(&self) -> (usize, Option<String>) {
        let known = self.message_ids.lock().unwrap_or_else(PoisonError::into_inner);
        (known.len(), known.iter().find(|(_, count)| **count > 1).map(|(id, _)| id.clone()))
    }

    /// A new identifier for a request.
    pub(super) fn new_id(&self) -> String {
        format!("uuid:{}", self.ids.new_guid())
    }

    /// The URI of a class of the profile's namespace.
    pub(super) fn class_uri(&self, class: &str) -> String {
        wmi_uri(&self.profile.cim.namespace, class)
    }

    /// A setting of `winrm/config`: `Service/EnumerationTimeoutms`.
    pub(super) fn setting(&self, path: &str) -> Option<u64> {
        self.setting_text(path)?.parse().ok()
    }

    /// The text of a setting of `winrm/config`.
    pub(super) fn setting_text(&self, path: &str) -> Option<&str> {
        self.config.as_ref()?.at(path).map(|node| node.text.trim())
    }

    /// A client of another user.
    pub(super) fn client_of(&self, account: &Account) -> Result<RawClient, String> {
        let text = std::fs::read_to_string(&account.password_file)
            .map_err(|error| format!("{}: {error}", account.password_file.display()))?;
        let mut options = self.options.clone();
        options.user.clone_from(&account.user);
        options.password = zeroize::Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
        RawClient::new(&options).map_err(|error| chain(&error))
    }

    /// Takes away everything the suite made; gives what could not be taken away.
    pub(super) async fn clean(&self) -> Vec<String> {
        let mut left = self.clean_changes().await;
        left.extend(self.clean_created().await);
        left
    }

    /// What Create made.
    async fn clean_created(&self) -> Vec<String> {
        let Some(create) = &self.profile.create else { return Vec::new() };
        let list = Message::list(self.class_uri(&create.class), 1000, EPR_TOO);
        let is_ours = |found: &&Found| found.node.children.iter().any(|property| property.text.starts_with(MARK));
        for left in self.found(&list).await.iter().filter(is_ours) {
            self.quiet(&left.transfer("Delete", "")).await;
        }
        self.found(&list).await.iter().filter(is_ours).map(|left| format!("{:?}", left.selectors)).collect()
    }

    /// What the method of `change` made.
    async fn clean_changes(&self) -> Vec<String> {
        let (Some(change), Some(service)) = (&self.profile.change, &self.service) else { return Vec::new() };
        let query = self.query(&change.find.replace("{name}", MARK));
        for _ in 0..CLEANING_ROUNDS {
            let left = self.found(&query).await;
            if left.is_empty() {
                return Vec::new();
            }
            for made in &left {
                let parameter = &change.undo_parameter;
                let input = format!("<r:{parameter}>{}</r:{parameter}>", made.reference());
                // What is under way already refuses; the next round looks again.
                self.quiet(&service.invoke(&change.undo, &input)).await;
            }
            tokio::time::sleep(CLEANING_PAUSE).await;
        }
        self.found(&query).await.iter().map(|made| format!("{:?}", made.selectors)).collect()
    }
}

/// How often what was made is looked for, and how long it is waited in between.
const CLEANING_ROUNDS: usize = 40;
const CLEANING_PAUSE: Duration = Duration::from_millis(150);

/// Items with references.
pub(super) const EPR_TOO: &str = "<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>";

/// The URI of a class as Windows writes it.
pub(super) fn wmi_uri(namespace: &str, class: &str) -> String {
    format!("http://schemas.microsoft.com/wbem/wsman/1/wmi/{namespace}/{class}")
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
