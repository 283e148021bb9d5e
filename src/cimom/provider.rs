//! What a class implementation offers to the object manager.
//!
//! A provider may rely on what the object manager has checked and must not repeat it:
//! the class exists and is the one registered; every key of a path names a key property and the
//! path is complete; the method exists; every argument is declared, has the direction `In` and
//! converts to its declared type; the caller has the right for the kind of operation.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::cim::{
    CimError, CimInstance, CimStatus, CimValue, ClassDeclaration, MethodDeclaration, ObjectPath, PropertyName,
};

use super::CallContext;

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Instances one after the other. A provider makes each when it is asked for it.
pub type InstanceStream = Box<dyn Iterator<Item = Result<CimInstance, CimError>> + Send>;

/// Serves the instances of one or more classes.
pub trait InstanceProvider: Send + Sync {
    /// All instances of exactly `class`, not of its subclasses.
    ///
    /// # Errors
    /// A [`CimError`] when nothing can be listed at all.
    fn enumerate(&self, cx: &CallContext, class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError>;

    /// The instance of exactly `class` whose keys are those of `path`, or `None`.
    ///
    /// The default looks through [`enumerate`](Self::enumerate); providers with many instances do better.
    ///
    /// # Errors
    /// A [`CimError`] when the instance cannot be read.
    fn get(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<Option<CimInstance>, CimError> {
        for instance in self.enumerate(cx, class)? {
            let instance = instance?;
            if instance.path(&cx.namespace).keys() == path.keys() {
                return Ok(Some(instance));
            }
        }
        Ok(None)
    }
}

/// Serves an association class: an instance provider that can also start from one end.
pub trait AssociationProvider: InstanceProvider {
    /// The instances of exactly `class` in which a reference property (the one named `role`, or any)
    /// points to `source`, an instance that exists.
    ///
    /// # Errors
    /// A [`CimError`] when they cannot be listed.
    fn references(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        source: &ObjectPath,
        role: Option<&PropertyName>,
    ) -> Result<InstanceStream, CimError>;
}

/// Carries out the methods of one or more classes.
pub trait MethodProvider: Send + Sync {
    /// Carries out `method` on `target`, an instance of exactly `class` that exists (or the class
    /// itself for a static method).
    ///
    /// What the host cannot do is a return value; a [`CimError`] is for requests that are wrong.
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        method: &'a MethodDeclaration,
        arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>>;
}

/// An instance as a client wrote it, typed by its class.
#[derive(Clone, Debug)]
pub struct Representation {
    /// The values. Those of other properties than `names` mean nothing.
    pub instance: CimInstance,
    /// The properties that were given; to [`WriteProvider::modify`], those of them that are to change.
    pub names: Vec<PropertyName>,
}

/// Changes, makes and deletes the instances of one or more classes (`ModifyInstance`, `CreateInstance` and
/// `DeleteInstance` of DSP0223). What a class does not have is refused with `CIM_ERR_NOT_SUPPORTED`.
///
/// No operation leaves anything half done: it is carried out when it answers, or it has changed nothing.
pub trait WriteProvider: Send + Sync {
    /// Gives properties of `target`, an instance of exactly `class` that exists, new values. No key is among them.
    ///
    /// A property that cannot be changed, or not to that value, is `CIM_ERR_INVALID_PARAMETER`.
    fn modify<'a>(
        &'a self,
        _cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
        _changes: Representation,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        refuse("changed", class)
    }

    /// Makes an instance of `class` and answers its path.
    fn create<'a>(
        &'a self,
        _cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        _given: Representation,
    ) -> BoxFuture<'a, Result<ObjectPath, CimError>> {
        refuse("created", class)
    }

    /// Deletes `target`, an instance of exactly `class` that exists.
    fn delete<'a>(
        &'a self,
        _cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        refuse("deleted", class)
    }
}

fn refuse<'a, T: Send + 'a>(
    what: &'static str,
    class: &'a Arc<ClassDeclaration>,
) -> BoxFuture<'a, Result<T, CimError>> {
    Box::pin(async move {
        let reason = format!("instances of class {} cannot be {what} by clients", class.name());
        Err(CimError::new(CimStatus::NotSupported, reason))
    })
}

/// The input arguments of a method, typed as declared. An argument that was left out is not there;
/// one that was `xsi:nil` is [`CimValue::Null`].
#[derive(Clone, Debug, Default)]
pub struct MethodArguments(BTreeMap<PropertyName, CimValue>);

impl MethodArguments {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an argument.
    pub fn insert(&mut self, name: PropertyName, value: CimValue) {
        self.0.insert(name, value);
    }

    /// Takes an argument out; null when it was left out or nil.
    pub fn take(&mut self, name: &str) -> CimValue {
        self.0.remove(&PropertyName::new(name)).unwrap_or_default()
    }

    /// The arguments that were given, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&PropertyName, &CimValue)> {
        self.0.iter()
    }
}

/// The answer of a method: return value and output arguments.
#[derive(Clone, Debug)]
pub struct MethodResult {
    /// The return value.
    pub return_value: CimValue,
    /// Output arguments that are not null, in any order; they go out as the method declares them.
    pub output: Vec<(PropertyName, CimValue)>,
}

impl MethodResult {
    /// A result with a `uint32` return value and no output.
    #[must_use]
    pub const fn returning(code: u32) -> Self {
        Self { return_value: CimValue::Uint32(code), output: Vec::new() }
    }

    /// Adds an output argument.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<CimValue>) -> Self {
        self.output.push((PropertyName::from_static(name), value.into()));
        self
    }
}
