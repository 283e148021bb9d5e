//! The host itself as `root/cimv2` shows it: computer, product, operating system and processors (`clients.md` part 5).
//!
//! What the host does not tell is null, except in keys.

use std::sync::Arc;

use chrono::DateTime;
use smol_str::{SmolStr, format_smolstr};

use super::ProviderOptions;
use super::element::Element;
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::backend::ProcessorPackage;
use crate::cim::{CimDateTime, CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder, ObjectPath};
use crate::time::Timestamp;

/// A record of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostRecord {
    /// The computer.
    Computer,
    /// Its hardware as somebody sells it.
    Product,
    /// What runs on it.
    OperatingSystem,
    /// A processor package, counted from zero.
    Processor(usize),
}

const COMPUTER: &str = "Win32_ComputerSystem";
const OPERATING_SYSTEM: &str = "Win32_OperatingSystem";

/// The classes of the records.
pub(super) const HOST_CLASSES: [&str; 4] =
    [COMPUTER, "Win32_ComputerSystemProduct", OPERATING_SYSTEM, "Win32_Processor"];

/// Number of Linux in `OSType`.
const LINUX: u16 = 36;
/// Numbers of `Architecture` of a processor.
const ARCHITECTURE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(9)
} else if cfg!(target_arch = "aarch64") {
    Some(12)
} else {
    None
};
/// Bits of an address, and of a word.
const WIDTH: u16 = if cfg!(target_pointer_width = "64") { 64 } else { 32 };

impl HostRecord {
    /// The class of the record.
    pub(super) const fn class_name(self) -> &'static str {
        let [computer, product, operating_system, processor] = HOST_CLASSES;
        match self {
            Self::Computer => computer,
            Self::Product => product,
            Self::OperatingSystem => operating_system,
            Self::Processor(_) => processor,
        }
    }

    /// The records of a class.
    fn of_class(class: &str, options: &ProviderOptions) -> Vec<Self> {
        let records = [Self::Computer, Self::Product, Self::OperatingSystem].into_iter();
        let all = records.chain(processors(options));
        all.filter(|record| record.class_name().eq_ignore_ascii_case(class)).collect()
    }

    /// Adds the keys to a path.
    pub(super) fn with_keys(self, path: ObjectPath, options: &ProviderOptions) -> ObjectPath {
        match self {
            Self::Computer => path.with_key("Name", options.host_name.clone()),
            Self::Product => {
                let [number, name, version] = product_keys(options);
                path.with_key("IdentifyingNumber", number).with_key("Name", name).with_key("Version", version)
            }
            Self::OperatingSystem => path.with_key("Name", system_name(options)),
            Self::Processor(number) => path.with_key("DeviceID", device_id(number)),
        }
    }

    /// The record of `class` with the keys of `path`.
    pub(super) fn find(class: &str, path: &ObjectPath, options: &ProviderOptions) -> Option<Self> {
        let own = |record: &Self| record.with_keys(ObjectPath::relative(path.class_name().clone()), options);
        Self::of_class(class, options).into_iter().find(|record| own(record).keys() == path.keys())
    }
}

/// The processors of the host.
pub(super) fn processors(options: &ProviderOptions) -> impl Iterator<Item = HostRecord> + use<> {
    (0..options.host.processors.len()).map(HostRecord::Processor)
}

fn device_id(number: usize) -> SmolStr {
    format_smolstr!("CPU{number}")
}

fn text(value: Option<&String>) -> SmolStr {
    value.map(SmolStr::new).unwrap_or_default()
}

/// Number, name and version of the product.
fn product_keys(options: &ProviderOptions) -> [SmolStr; 3] {
    let host = &options.host;
    [text(host.serial_number.as_ref()), text(host.product_name.as_ref()), text(host.product_version.as_ref())]
}

fn system_name(options: &ProviderOptions) -> SmolStr {
    options.host.system_name.as_ref().map_or(SmolStr::new_static("Linux"), SmolStr::new)
}

/// Serves the records of one class.
pub(super) struct HostRecords {
    class: &'static str,
    template: CimInstance,
}

impl HostRecords {
    /// Serves a class with what never changes.
    pub(super) fn new(
        class: &'static str,
        declaration: &Arc<ClassDeclaration>,
        options: &ProviderOptions,
    ) -> Result<Self, CimError> {
        let builder = InstanceBuilder::new(declaration);
        let builder = match HostRecord::of_class(class, options).first() {
            Some(HostRecord::Computer) => computer(builder, options),
            Some(HostRecord::Product) => product(builder, options),
            Some(HostRecord::OperatingSystem) => operating_system(builder, options),
            Some(HostRecord::Processor(_)) => processor(builder, options),
            None => builder,
        };
        Ok(Self { class, template: builder.build()? })
    }
}

impl Family for HostRecords {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        let records = HostRecord::of_class(self.class, &scope.shared.options);
        Box::new(records.into_iter().map(Element::HostRecord))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let options = &scope.shared.options;
        let builder = InstanceBuilder::from_template(self.template.clone());
        let builder = match element {
            Element::HostRecord(HostRecord::Computer | HostRecord::Product) => builder,
            Element::HostRecord(HostRecord::OperatingSystem) => used(builder, options, scope.now),
            Element::HostRecord(HostRecord::Processor(number)) => match options.host.processors.get(number) {
                Some(package) => package_of(builder, number, package),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        builder.build().map(Some)
    }
}

fn computer(builder: InstanceBuilder, options: &ProviderOptions) -> InstanceBuilder {
    let (host, name) = (&options.host, &options.host_name);
    let (short, domain) = match name.split_once('.') {
        Some((short, domain)) => (short, Some(domain)),
        None => (name.as_str(), None),
    };
    let threads: u32 = host.processors.iter().map(|package| package.threads).sum();
    let kind = match ARCHITECTURE {
        Some(9) => Some("x64-based PC"),
        Some(12) => Some("ARM64-based PC"),
        _ => None,
    };
    builder
        .set("Caption", name.clone())
        .set("CreationClassName", COMPUTER)
        .set("CurrentTimeZone", options.utc_offset_minutes)
        .set("Description", host.product_name.as_deref())
        .set("DNSHostName", short)
        .set("Domain", domain)
        .set("Manufacturer", host.vendor.as_deref())
        .set("Model", host.product_name.as_deref())
        .set("Name", name.clone())
        .set("NumberOfLogicalProcessors", threads)
        .set("NumberOfProcessors", u32::try_from(host.processors.len()).ok())
        .set("Status", "OK")
        .set("SystemType", kind)
        .set("TotalPhysicalMemory", host.total_memory)
}

fn product(builder: InstanceBuilder, options: &ProviderOptions) -> InstanceBuilder {
    let host = &options.host;
    let [number, name, version] = product_keys(options);
    builder
        .set("Caption", "Computer System Product")
        .set("Description", "Computer System Product")
        .set("IdentifyingNumber", number)
        .set("Name", name)
        // A host without an identity of its own has that of this installation: clients need one.
        .set("UUID", host.uuid.unwrap_or(options.installation).to_string())
        .set("Vendor", host.vendor.as_deref())
        .set("Version", version)
}

/// The first three numbers of a kernel's release: `6.1.0-20-amd64` is 6.1.0.
fn version(release: &str) -> Option<SmolStr> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut numbers = release.get(..end)?.split('.').filter(|number| !number.is_empty());
    let (major, minor) = (numbers.next()?, numbers.next()?);
    Some(format_smolstr!("{major}.{minor}.{}", numbers.next().unwrap_or("0")))
}

fn operating_system(builder: InstanceBuilder, options: &ProviderOptions) -> InstanceBuilder {
    let host = &options.host;
    let sum = |memory: Option<u64>, swap: Option<u64>| Some(memory?.saturating_add(swap?));
    builder
        .set("BuildType", host.kernel_release.as_deref())
        .set("Caption", system_name(options))
        .set("CreationClassName", OPERATING_SYSTEM)
        .set("CSCreationClassName", COMPUTER)
        .set("CSName", options.host_name.clone())
        .set("CurrentTimeZone", options.utc_offset_minutes)
        .set("Description", "")
        .set("Distributed", false)
        .set("LastBootUpTime", host.booted.and_then(|at| DateTime::from_timestamp(at, 0)).map(CimDateTime::utc))
        .set("Name", system_name(options))
        .set("OSArchitecture", format!("{WIDTH}-bit"))
        .set("OSType", LINUX)
        .set("Primary", true)
        .set("SizeStoredInPagingFiles", kilobytes(host.total_swap))
        .set("Status", "OK")
        .set("TotalVirtualMemorySize", kilobytes(sum(host.total_memory, host.total_swap)))
        .set("TotalVisibleMemorySize", kilobytes(host.total_memory))
        .set("Version", host.kernel_release.as_deref().and_then(version))
}

fn used(builder: InstanceBuilder, options: &ProviderOptions, now: Timestamp) -> InstanceBuilder {
    let usage = options.host.usage(now);
    let free = || Some(usage.available_memory?.saturating_add(usage.free_swap?));
    builder
        .set("FreePhysicalMemory", kilobytes(usage.available_memory))
        .set("FreeSpaceInPagingFiles", kilobytes(usage.free_swap))
        .set("FreeVirtualMemory", kilobytes(free()))
        .set("LocalDateTime", CimDateTime::utc(now))
        .set("NumberOfProcesses", usage.processes)
}

const fn kilobytes(bytes: Option<u64>) -> Option<u64> {
    match bytes {
        Some(bytes) => Some(bytes / 1024),
        None => None,
    }
}

fn processor(builder: InstanceBuilder, options: &ProviderOptions) -> InstanceBuilder {
    builder
        .set("AddressWidth", WIDTH)
        .set("Architecture", ARCHITECTURE)
        .set("Availability", 3_u16)
        .set("CpuStatus", 1_u16)
        .set("CreationClassName", "Win32_Processor")
        .set("DataWidth", WIDTH)
        .set("ProcessorType", 3_u16)
        .set("Role", "CPU")
        .set("Status", "OK")
        .set("StatusInfo", 3_u16)
        .set("SystemCreationClassName", COMPUTER)
        .set("SystemName", options.host_name.clone())
}

fn package_of(builder: InstanceBuilder, number: usize, package: &ProcessorPackage) -> InstanceBuilder {
    let words = |(family, model, stepping)| format!("Family {family} Model {model} Stepping {stepping}");
    let description = package.identity.map(words);
    builder
        .set("Caption", description.as_deref())
        .set("CurrentClockSpeed", package.current_mhz)
        .set("Description", description.as_deref())
        .set("DeviceID", device_id(number))
        .set("Level", package.identity.map(|(family, ..)| family))
        .set("Manufacturer", package.vendor.as_deref())
        .set("MaxClockSpeed", package.max_mhz)
        .set("Name", package.model_name.as_deref())
        .set("NumberOfCores", package.cores)
        .set("NumberOfLogicalProcessors", package.threads)
        .set("SocketDesignation", device_id(number))
        .set("Stepping", package.identity.map(|(.., stepping)| CimValue::from(stepping.to_string())))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_has_three_numbers() {
        for (release, wanted) in [
            ("6.1.0-20-amd64", Some("6.1.0")),
            ("6.18.44", Some("6.18.44")),
            ("5.4-rc1", Some("5.4.0")),
            ("4.19.0.1+", Some("4.19.0")),
            ("6", None),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(version(release).as_deref(), wanted, "{release}");
        }
    }
}
