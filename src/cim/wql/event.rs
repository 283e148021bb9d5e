//! Event queries: what a subscription asks for (`ws-management.md` §8.1, §9).

use std::str::FromStr;
use std::sync::Arc;

use super::bind::{Binder, Candidates, Embedded};
use super::{BoundQuery, Expression, Select, WqlError};
use crate::cim::{ClassDeclaration, ClassName};

/// `SELECT … FROM an indication class [WITHIN seconds] [WHERE …]`, where the condition may look into embedded
/// instances: `TargetInstance ISA 'Msvm_ConcreteJob' AND TargetInstance.JobState = 7`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventQuery {
    /// The query.
    pub select: Select,
    /// `WITHIN`, in seconds: how late an event may be told. Events are told at once, so it changes nothing.
    pub within: Option<f64>,
}

impl FromStr for EventQuery {
    type Err = WqlError;

    fn from_str(text: &str) -> Result<Self, WqlError> {
        super::parse::event_query(text)
    }
}

impl EventQuery {
    /// Checks the query against the indication class the caller found under [`Select::class`].
    ///
    /// `candidates` gives the classes that an embedded instance may have: of a name, it and the classes derived from
    /// it, or `None` when there is no such class; without a name, all that events are told of. The condition says
    /// the name with `ISA`; a second embedded instance is taken to be of the same class unless it says otherwise.
    ///
    /// # Errors
    /// As [`Select::bind`], and [`WqlError::UnknownClass`].
    pub fn bind(&self, class: &Arc<ClassDeclaration>, candidates: &Candidates<'_>) -> Result<BoundQuery, WqlError> {
        let stated = self.embedded_classes();
        for (_, name) in &stated {
            if candidates(Some(name)).is_none() {
                return Err(WqlError::UnknownClass(name.to_string()));
            }
        }
        let embedded = Embedded { stated: &stated, candidates };
        self.select.bind_with(&Binder { class, embedded: Some(embedded) })
    }

    /// The classes that the condition demands of embedded instances, whatever else it says: the property and the
    /// class of each `ISA` that must hold.
    #[must_use]
    pub fn embedded_classes(&self) -> Vec<(&str, &ClassName)> {
        let mut stated = Vec::new();
        if let Some(filter) = &self.select.filter {
            demanded(filter, &mut stated);
        }
        stated
    }
}

fn demanded<'q>(expression: &'q Expression, stated: &mut Vec<(&'q str, &'q ClassName)>) {
    match expression {
        Expression::And(items) => items.iter().for_each(|item| demanded(item, stated)),
        Expression::Isa { property, class } if property.class.is_none() && property.system().is_none() => {
            stated.push((property.name.as_str(), class));
        }
        _ => {}
    }
}
