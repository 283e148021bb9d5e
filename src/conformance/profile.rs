//! What the suite has to know of its subject: the classes to use, a second account, limits of patience.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read the profile {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not a profile.
    #[error("{0} is not a profile: {1}")]
    Wrong(PathBuf, String),
}

/// A profile. What is left out of the file has the value that fits `wsnapd demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// The classes.
    pub cim: Classes,
    /// A method that answers without changing anything.
    pub method: Method,
    /// A method that changes something, and how to undo it.
    pub change: Option<Change>,
    /// A class whose instances WS-Transfer can change; without one it is tried with `cim.class`.
    pub put: Option<Writable>,
    /// An instance that WS-Transfer can create.
    pub create: Option<Creation>,
    /// A method whose answer holds an embedded instance.
    pub embedded: Option<Embedded>,
    /// Another user of the same server.
    pub second_account: Option<Account>,
    /// A user who may only read.
    pub reader_account: Option<Account>,
    /// A method that takes long to answer.
    pub slow: Option<Slow>,
    /// A class whose instances come slowly, show the options they were asked with, and hold values of every type.
    pub probe: Option<Probe>,
    /// Eventing.
    pub events: Events,
    /// An `http://` address of the same server that must refuse credentials in clear text.
    pub clear_text_url: Option<String>,
    /// How long the suite waits for one thing, and how often it repeats.
    pub limits: Patience,
}

/// The classes the suite works with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classes {
    /// The namespace of all of them.
    pub namespace: String,
    /// Another namespace of the server.
    pub other_namespace: String,
    /// A class with two instances or more that share one of several keys.
    pub class: String,
    /// A WQL query for the instances of that class that can be worked with.
    pub query: String,
    /// The key they share.
    pub shared_key: String,
    /// A superclass of it that has fewer properties.
    pub base_class: String,
    /// A class that has, with its subclasses, five instances or more.
    pub numerous_class: String,
    /// A class with a key that is no string, and that key.
    pub numeric_key: Option<(String, String)>,
    /// A property of `class` that is a string.
    pub text_property: String,
    /// A property of `class` that is a number.
    pub number_property: String,
    /// A property of `class` that is an array with one item or more.
    pub array_property: String,
    /// A property of `class` that is a point in time.
    pub datetime_property: String,
    /// A property of `class` that is null.
    pub null_property: String,
    /// An association class that leads from an instance of `class` to others.
    pub association: String,
    /// A superclass of the association class.
    pub association_base: String,
    /// The class at its far end.
    pub associated_class: String,
    /// A superclass of that.
    pub associated_base: String,
    /// The property of the association that points to the instance of `class`.
    pub role: String,
    /// A property of the associated class.
    pub associated_property: String,
}

impl Default for Classes {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            namespace: text("root/virtualization/v2"),
            other_namespace: text("root/interop"),
            class: text("Msvm_ComputerSystem"),
            query: text("SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'"),
            shared_key: text("CreationClassName"),
            base_class: text("CIM_ComputerSystem"),
            numerous_class: text("CIM_ManagedElement"),
            numeric_key: None,
            text_property: text("ElementName"),
            number_property: text("EnabledState"),
            array_property: text("OperationalStatus"),
            datetime_property: text("InstallDate"),
            null_property: text("OtherEnabledState"),
            association: text("Msvm_SettingsDefineState"),
            association_base: text("CIM_SettingsDefineState"),
            associated_class: text("Msvm_VirtualSystemSettingData"),
            associated_base: text("CIM_SettingData"),
            role: text("ManagedElement"),
            associated_property: text("InstanceID"),
        }
    }
}

/// A method of the only instance of a class.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Method {
    /// The class.
    pub class: String,
    /// The method.
    pub name: String,
    /// A parameter that is a reference to an instance of `cim.class`.
    pub reference: String,
    /// A parameter that is a `uint16`.
    pub number: String,
    /// A value of it with which the method refuses to do anything.
    pub refused: String,
}

impl Default for Method {
    fn default() -> Self {
        Self {
            class: "Msvm_VirtualSystemSnapshotService".to_owned(),
            name: "CreateSnapshot".to_owned(),
            reference: "AffectedSystem".to_owned(),
            number: "SnapshotType".to_owned(),
            refused: "99".to_owned(),
        }
    }
}

/// A method of the only instance of `method.class` that makes something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The method.
    pub method: String,
    /// The content of its input, with the prefix `r` for parameters; `{instance}` stands for a reference to an
    /// instance of `cim.class`, `{name}` for the name of what is made.
    pub input: String,
    /// A WQL query for what was made; `{name}` as before.
    pub find: String,
    /// The method that takes it away again.
    pub undo: String,
    /// Its parameter for the reference to what was made.
    pub undo_parameter: String,
    /// How a control character is written in a name inside `input`.
    pub control_character: Option<String>,
}

/// A class of the profile's namespace whose first instance can be changed by Put.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writable {
    /// The class.
    pub class: String,
    /// A property that can be written and is a string.
    pub text_property: String,
    /// A property that is a number.
    pub number_property: String,
}

/// An instance that WS-Transfer can create, and delete again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Creation {
    /// The class.
    pub class: String,
    /// The properties, with the prefix `r`; the keys decide that a second one is the same. `{name}` stands for the name
    /// of what is made, which begins one of its properties, `{id}` for a new GUID.
    pub body: String,
}

/// A method call whose answer holds an embedded instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// The namespace.
    pub namespace: String,
    /// The class; its first instance is called.
    pub class: String,
    /// The method.
    pub method: String,
    /// The content of its input, with the prefix `r`.
    pub input: String,
    /// The output parameter that is the embedded instance.
    pub parameter: String,
    /// The class of the embedded instance.
    pub embedded_class: String,
}

/// Another user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
}

/// A method that takes longer than a second.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// The namespace.
    pub namespace: String,
    /// The class; its first instance is called.
    pub class: String,
    /// The method.
    pub method: String,
    /// The content of its input, with the prefix `r`; it is to take five seconds.
    pub input: String,
}

/// A class made for tests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The namespace.
    pub namespace: String,
    /// A class whose instances come one second apart.
    pub slow_class: Option<String>,
    /// A class whose instances show, in the array property `options_property`, the options as `name=value`.
    pub options_class: Option<String>,
    /// That property.
    pub options_property: Option<String>,
    /// A method that echoes a `char16`.
    pub char16: Option<Char16>,
}

/// A method that echoes a `char16`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Char16 {
    /// The namespace.
    pub namespace: String,
    /// The class; its first instance is called.
    pub class: String,
    /// The method.
    pub method: String,
    /// The input parameter.
    pub input: String,
    /// The output parameter.
    pub output: String,
}

/// What eventing is tried with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// A WQL event query whose events `change` brings about.
    pub query: String,
    /// The indication class of that query.
    pub class: String,
    /// A WQL event query whose events `change` brings about too, each longer than 4,000 characters; may be empty.
    pub large_query: String,
    /// An address of this host that the server can push events to; the suite listens at a free port of it. Empty when
    /// there is none.
    pub sink: String,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            query: "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA Msvm_ConcreteJob".to_owned(),
            class: "CIM_InstCreation".to_owned(),
            large_query: "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA Msvm_VirtualSystemSettingData"
                .to_owned(),
            sink: "127.0.0.1".to_owned(),
        }
    }
}

/// How long the suite waits, and how often it repeats.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// The longest wait for a timer of the server, in seconds; what takes longer is not tried.
    pub wait_seconds: u64,
    /// How many answers are compared for repeated message identifiers.
    pub message_ids: usize,
    /// The most enumerations that are opened to reach the quota; a larger quota is not tried.
    pub open_enumerations: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { wait_seconds: 10, message_ids: 1000, open_enumerations: 2000 }
    }
}

/// The input of the default `change`: a snapshot of the disks, named in CIM-XML text.
const SNAPSHOT_INPUT: &str = "<r:AffectedSystem>{instance}</r:AffectedSystem><r:SnapshotSettings>\
    &lt;INSTANCE CLASSNAME=\"Msvm_VirtualSystemSettingData\"&gt;&lt;PROPERTY NAME=\"ElementName\" TYPE=\"string\"&gt;\
    &lt;VALUE&gt;{name}&lt;/VALUE&gt;&lt;/PROPERTY&gt;&lt;/INSTANCE&gt;</r:SnapshotSettings><r:SnapshotType>2</r:SnapshotType>";

impl Profile {
    /// The profile that fits `wsnapd demo`.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            change: Some(Change {
                method: "CreateSnapshot".to_owned(),
                input: SNAPSHOT_INPUT.to_owned(),
                find: "SELECT * FROM Msvm_VirtualSystemSettingData WHERE ElementName LIKE '{name}%'".to_owned(),
                undo: "DestroySnapshot".to_owned(),
                undo_parameter: "AffectedSnapshot".to_owned(),
                control_character: Some("&amp;#7;".to_owned()),
            }),
            put: Some(Writable {
                class: "Msvm_VirtualSystemSettingData".to_owned(),
                text_property: "ElementName".to_owned(),
                number_property: "UserSnapshotType".to_owned(),
            }),
            create: Some(Creation {
                class: "Msvm_VirtualSystemCollection".to_owned(),
                body: "<r:CollectionID>{id}</r:CollectionID><r:ElementName>{name}</r:ElementName>".to_owned(),
            }),
            embedded: Some(Embedded {
                namespace: "root/Microsoft/Windows/Storage/SM".to_owned(),
                class: "MSFT_SMStorageVolume".to_owned(),
                method: "CreateSnapshot".to_owned(),
                input: "<r:TargetPool>MSFT_SMPool.ObjectId=\"none\"</r:TargetPool>".to_owned(),
                parameter: "ExtendedStatus".to_owned(),
                embedded_class: "MSFT_SMExtendedStatus".to_owned(),
            }),
            ..Self::default()
        }
    }

    /// Reads a profile; sections that are left out are those of [`Profile::demo`].
    ///
    /// # Errors
    /// When the file cannot be read or has keys that a profile does not have.
    pub fn load(file: &Path) -> Result<Self, ProfileError> {
        let text = fs::read_to_string(file).map_err(|error| ProfileError::Read(file.to_owned(), error))?;
        Self::parse(&text).map_err(|error| ProfileError::Wrong(file.to_owned(), error.to_string()))
    }

    /// Reads the text of a profile.
    ///
    /// # Errors
    /// When the text is no TOML or has keys that a profile does not have.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let mut profile: Self = toml::from_str(text)?;
        let demo = Self::demo();
        // Whoever names other classes has other methods too.
        if profile.cim == demo.cim && profile.method == demo.method {
            profile.change = profile.change.or(demo.change);
            profile.embedded = profile.embedded.or(demo.embedded);
            profile.put = profile.put.or(demo.put);
            profile.create = profile.create.or(demo.create);
        }
        Ok(profile)
    }
}
