//! The operations.

use std::sync::Arc;

use crate::binding::write_reference;
use crate::cim::{ClassName, ObjectPath};
use crate::soap::action;
use crate::time::IdSource;
use crate::xml::{Ns, Writer};

use super::answer::{self, Batch};
use super::connection::{ClientOptions, Connection};
use super::error::ClientError;
use super::object::{self, Object, Output};
use super::request::{self, Target, style};

const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
const ASSOCIATION_FILTER: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter";
/// Items that one answer may bring.
const MAX_ELEMENTS: &str = "200";

/// A connected user of a WS-Management server.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
    ids: Arc<dyn IdSource>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.connection.url).finish_non_exhaustive()
    }
}

/// What Identify tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `ProtocolVersion`
    pub protocol_version: String,
    /// `ProductVendor`
    pub product_vendor: String,
    /// `ProductVersion`
    pub product_version: String,
}

/// An argument of a method.
#[derive(Clone, Debug)]
pub enum Argument<'a> {
    /// Text, also of a number.
    Text(&'a str),
    /// A reference.
    Reference(&'a ObjectPath),
}

/// Which associated instances are asked for; `None` leaves the choice open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Associators<'a> {
    /// `AssociationClassName`
    pub association: Option<&'a str>,
    /// `Role`
    pub role: Option<&'a str>,
    /// `ResultClassName`
    pub result_class: Option<&'a str>,
    /// `ResultRole`
    pub result_role: Option<&'a str>,
}

impl Client {
    /// A client that is not connected yet.
    ///
    /// # Errors
    /// When the URL, the credentials or the certificates cannot be used.
    pub fn new(options: &ClientOptions, ids: Arc<dyn IdSource>) -> Result<Self, ClientError> {
        Ok(Self { connection: Arc::new(Connection::new(options)?), ids })
    }

    /// Asks who the server is, with the user's credentials or, when `anonymous`, without.
    ///
    /// # Errors
    /// A [`ClientError`].
    pub async fn identify(&self, anonymous: bool) -> Result<Identity, ClientError> {
        let text = self.connection.exchange(request::IDENTIFY.to_owned(), anonymous).await?;
        let body = answer::body(&text)?.ok_or(ClientError::Incomplete("IdentifyResponse"))?;
        let (mut reader, _) = body.open()?;
        let mut identity = Identity::default();
        while let Some(child) = reader.next_child()? {
            match child.local() {
                "ProtocolVersion" => identity.protocol_version = reader.text_content()?.into_owned(),
                "ProductVendor" => identity.product_vendor = reader.text_content()?.into_owned(),
                "ProductVersion" => identity.product_version = reader.text_content()?.into_owned(),
                _ => reader.skip()?,
            }
        }
        Ok(identity)
    }

    /// Reads an instance (WS-Transfer Get). `path` must name its namespace.
    ///
    /// # Errors
    /// A [`ClientError`].
    pub async fn get(&self, path: &ObjectPath) -> Result<Object, ClientError> {
        let uri = class_uri(path);
        let target = Target { action: action::GET, resource_uri: &uri, path: Some(path) };
        let text = self.call(&target, |_| {}).await?;
        let body = answer::body(&text)?.ok_or(ClientError::Incomplete("instance"))?;
        Ok(Object { path: Some(path.clone()), instance: object::read(&body)? })
    }

    /// All instances of a class, or those that a WQL query chooses.
    ///
    /// # Errors
    /// A [`ClientError`].
    pub async fn enumerate(&self, namespace: &str, class: &str, wql: Option<&str>) -> Result<Vec<Object>, ClientError> {
        // A query goes to all classes of the namespace; the class stands in the query.
        let uri = style(namespace).class_uri(if wql.is_some() { "*" } else { class });
        let filter = |w: &mut Writer| {
            if let Some(query) = wql {
                w.element_with("w:Filter", &[("Dialect", WQL)], |w| w.text(query));
            }
        };
        self.enumerate_all(namespace, &uri, filter).await
    }

    /// The instances at the other end of associations.
    ///
    /// # Errors
    /// A [`ClientError`].
    pub async fn associators(&self, of: &ObjectPath, wanted: Associators<'_>) -> Result<Vec<Object>, ClientError> {
        let namespace = of.namespace().unwrap_or_default();
        // CIM_ManagedElement would do as well; the URI of all classes says the same without a name.
        let uri = style(namespace).class_uri("*");
        let filter = |w: &mut Writer| {
            w.element_with("w:Filter", &[("Dialect", ASSOCIATION_FILTER)], |w| {
                w.element("b:AssociatedInstances", |w| {
                    w.element("b:Object", |w| write_reference(w, of, &style(namespace)));
                    let parts = [
                        ("b:AssociationClassName", wanted.association),
                        ("b:Role", wanted.role),
                        ("b:ResultClassName", wanted.result_class),
                        ("b:ResultRole", wanted.result_role),
                    ];
                    for (tag, text) in parts {
                        if let Some(text) = text {
                            w.text_element(tag, text);
                        }
                    }
                });
            });
        };
        self.enumerate_all(namespace, &uri, filter).await
    }

    /// Calls a method. `path` must name its namespace.
    ///
    /// # Errors
    /// A [`ClientError`]; a return value other than 0 is not one.
    pub async fn invoke(
        &self,
        path: &ObjectPath,
        method: &str,
        arguments: &[(&str, Argument<'_>)],
    ) -> Result<Output, ClientError> {
        let uri = class_uri(path);
        let action = format!("{uri}/{method}");
        let target = Target { action: &action, resource_uri: &uri, path: Some(path) };
        let text = self
            .call(&target, |w| {
                w.element_with(&format!("p:{method}_INPUT"), &[("xmlns:p", &uri)], |w| {
                    for (name, argument) in arguments {
                        w.element(&format!("p:{name}"), |w| match argument {
                            Argument::Text(text) => w.text(text),
                            Argument::Reference(path) => {
                                write_reference(w, path, &style(path.namespace().unwrap_or_default()));
                            }
                        });
                    }
                });
            })
            .await?;
        let body = answer::body(&text)?.ok_or(ClientError::Incomplete("method output"))?;
        Ok(Output(object::read(&body)?))
    }

    async fn enumerate_all(
        &self,
        namespace: &str,
        uri: &str,
        filter: impl FnOnce(&mut Writer),
    ) -> Result<Vec<Object>, ClientError> {
        let target = Target { action: action::ENUMERATE, resource_uri: uri, path: None };
        let text = self
            .call(&target, |w| {
                w.element("n:Enumerate", |w| {
                    w.empty("w:OptimizeEnumeration");
                    w.text_element("w:MaxElements", MAX_ELEMENTS);
                    filter(w);
                    w.text_element("w:EnumerationMode", "EnumerateObjectAndEPR");
                });
            })
            .await?;
        let Batch { mut objects, mut context } = read_batch(&text)?;
        while let Some(id) = context {
            let target = Target { action: action::PULL, resource_uri: uri, path: None };
            let text = self
                .call(&target, |w| {
                    w.element("n:Pull", |w| {
                        w.text_element("n:EnumerationContext", &id);
                        w.text_element("n:MaxElements", MAX_ELEMENTS);
                    });
                })
                .await?;
            let batch = read_batch(&text)?;
            objects.extend(batch.objects);
            context = batch.context;
        }
        for object in &mut objects {
            // Paths are used for further calls, which need to know where.
            if let Some(path) = object.path.take() {
                object.path = Some(if path.namespace().is_some() { path } else { path.in_namespace(namespace) });
            }
        }
        Ok(objects)
    }

    async fn call(&self, target: &Target<'_>, body: impl FnOnce(&mut Writer)) -> Result<String, ClientError> {
        let id = format!("uuid:{}", self.ids.new_guid());
        let timeout = self.connection.timeout.as_secs().max(1);
        let envelope = request::envelope(&self.connection.url, &id, timeout, target, body);
        let text = self.connection.exchange(envelope, false).await?;
        if related(&text)?.as_deref() != Some(id.as_str()) {
            return Err(ClientError::Incomplete("RelatesTo that names the request"));
        }
        Ok(text)
    }
}

/// The path of the only instance of a class, by the keys that are known without asking.
pub(super) fn class_uri(path: &ObjectPath) -> String {
    style(path.namespace().unwrap_or_default()).class_uri(ClassName::as_str(path.class_name()))
}

fn read_batch(text: &str) -> Result<Batch, ClientError> {
    answer::batch(&answer::body(text)?.ok_or(ClientError::Incomplete("enumeration answer"))?)
}

/// `a:RelatesTo` of an answer.
fn related(text: &str) -> Result<Option<String>, ClientError> {
    let mut reader = crate::xml::Reader::new(text);
    reader.next()?;
    while let Some(part) = reader.next_child()? {
        if !part.is(Ns::Soap, "Header") {
            return Ok(None);
        }
        while let Some(header) = reader.next_child()? {
            if header.is(Ns::Addressing, "RelatesTo") {
                return Ok(Some(reader.text_content()?.into_owned()));
            }
            reader.skip()?;
        }
    }
    Ok(None)
}
