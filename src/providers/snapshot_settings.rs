//! Embedded instances as method arguments, and `SnapshotSettings` in particular (`snapshot-semantics` §3).

use smol_str::SmolStr;

use super::answers::{INVALID_PARAMETER, Refusal};
use crate::cim::{CimError, CimInstance, CimValue, NamespaceSchema, RawInstance, RawValue, embedded};
use crate::cimom::Representation;
use crate::engine::{ConsistencyLevel, GuestBackupType, SnapshotSettings};

/// An embedded instance together with what was really given in it.
pub(super) struct Given {
    instance: CimInstance,
    names: Vec<crate::cim::PropertyName>,
}

impl Given {
    /// Reads the argument: text, elements, or an instance. Nothing, null and empty text are the same: `None`.
    ///
    /// Text that does not parse, an unknown class or property, a value that does not convert or lies outside its
    /// value map are all refused with 32773; the reason goes to the log.
    pub(super) fn read(schema: &NamespaceSchema, argument: &CimValue) -> Result<Option<Self>, Refusal> {
        let refused = |reason: &dyn std::fmt::Display| {
            tracing::info!(%reason, "an embedded instance was refused");
            Refusal::Code(INVALID_PARAMETER)
        };
        let raw = match argument {
            CimValue::Null => return Ok(None),
            CimValue::String(text) => match embedded::parse(text).map_err(|error| refused(&error))? {
                Some(raw) => raw,
                None => return Ok(None),
            },
            CimValue::RawInstance(raw) => RawInstance::clone(raw),
            CimValue::Instance(instance) => {
                let given = instance.properties().filter(|(_, value)| **value != CimValue::Null);
                let names = given.map(|(property, _)| property.name().clone()).collect();
                return Self::checked(CimInstance::clone(instance), names).map(Some).map_err(|error| refused(&error));
            }
            _ => return Err(refused(&"it is no instance")),
        };
        let instance = schema.instantiate(&raw).map_err(|error| refused(&error))?;
        let given = raw.properties.into_iter().filter(|property| property.value != RawValue::Null);
        let names = given.map(|property| property.name).collect();
        Self::checked(instance, names).map(Some).map_err(|error| refused(&error))
    }

    /// What a client wrote with Put or Create, if it is about these properties and none of them is null.
    pub(super) fn of(representation: Representation, writable: &[&str]) -> Result<Self, CimError> {
        let Representation { instance, names } = representation;
        let class = instance.class().name();
        for name in &names {
            if !writable.iter().any(|writable| *name == *writable) {
                let reason = format!("{name} of class {class} is not written this way; {} are", writable.join(", "));
                return Err(CimError::invalid_parameter(reason));
            }
            if *instance.get(name.as_str()) == CimValue::Null {
                return Err(CimError::invalid_parameter(format!("{name} of class {class} cannot be null")));
            }
        }
        Ok(Self { instance, names })
    }

    /// Checks each given number against its value map.
    fn checked(instance: CimInstance, names: Vec<crate::cim::PropertyName>) -> Result<Self, CimError> {
        for name in &names {
            let Some(property) = instance.class().property(name.as_str()) else { continue };
            let Some(map) = &property.value_map else { continue };
            let value = instance.get(name.as_str());
            let numbers = value.as_array().unwrap_or(std::slice::from_ref(value)).iter().filter_map(CimValue::as_i128);
            for number in numbers {
                if !map.contains(number) {
                    return Err(CimError::invalid_parameter(format!("{name} cannot be {number}")));
                }
            }
        }
        Ok(Self { instance, names })
    }

    /// Whether the instance is of the class or of one derived from it.
    pub(super) fn is_a(&self, class: &str) -> bool {
        self.instance.class().is_a(class)
    }

    /// Whether something but a key was given that an instance has another value for.
    pub(super) fn changes(&self, current: &CimInstance) -> bool {
        let is_key = |name: &str| current.class().property(name).is_some_and(|property| property.is_key);
        let mut others = self.names.iter().map(crate::cim::PropertyName::as_str).filter(|name| !is_key(name));
        others.any(|name| self.instance.get(name) != current.get(name))
    }

    /// Whether the instance is of exactly the class.
    pub(super) fn is_exactly(&self, class: &str) -> bool {
        *self.instance.class().name() == class
    }

    /// The value of a property, if it was given and is not null.
    pub(super) fn get(&self, name: &str) -> Option<&CimValue> {
        self.names.iter().any(|given| *given == name).then(|| self.instance.get(name))
    }

    /// A given text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            CimValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The given display name.
    pub(super) fn name(&self) -> Option<SmolStr> {
        self.text("ElementName").map(SmolStr::new)
    }

    /// Given texts; none when the list was left out.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let items = self.get(name).and_then(CimValue::as_array).unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    /// A given number of sixteen bits or less.
    pub(super) fn number(&self, name: &str) -> Option<u16> {
        self.get(name)?.as_u64().and_then(|number| u16::try_from(number).ok())
    }

    /// A given truth value.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    /// The notes: of several elements the first, of none the empty text.
    pub(super) fn notes(&self) -> Option<String> {
        let items = self.get("Notes")?.as_array()?;
        Some(match items.first() {
            Some(CimValue::String(text)) => text.to_string(),
            _ => String::new(),
        })
    }
}

/// The settings of a new snapshot.
pub(super) fn snapshot_settings(schema: &NamespaceSchema, argument: &CimValue) -> Result<SnapshotSettings, Refusal> {
    let mut settings = SnapshotSettings::default();
    let Some(given) = Given::read(schema, argument)? else { return Ok(settings) };
    // An empty name is no name: the snapshot is named after machine and time.
    settings.name = given.text("ElementName").filter(|name| !name.is_empty()).map(Into::into);
    if given.is_a("Msvm_VirtualSystemSnapshotSettingData") {
        let unusable = Refusal::Code(INVALID_PARAMETER);
        let level = given.number("ConsistencyLevel").unwrap_or(0);
        let level = u8::try_from(level).ok().and_then(ConsistencyLevel::from_number);
        let backup = GuestBackupType::from_number(given.number("GuestBackupType").unwrap_or(0));
        let (Some(level), Some(backup)) = (level, backup) else { return Err(unusable) };
        settings.consistency = level;
        settings.guest_backup_type = backup;
        settings.ignore_non_snapshottable_disks = given.boolean("IgnoreNonSnapshottableDisks").unwrap_or(false);
    } else if given.is_a("CIM_VirtualSystemSettingData") {
        // Clients send the whole record of the machine; its empty notes mean nothing.
        settings.notes = given.notes().filter(|notes| !notes.is_empty());
    } else if !given.is_exactly("CIM_SettingData") {
        tracing::info!("the settings are of a class that does not describe a snapshot");
        return Err(Refusal::Code(INVALID_PARAMETER));
    }
    Ok(settings)
}
