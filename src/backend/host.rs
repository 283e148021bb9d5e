//! What is known of the host itself: its hardware and system, read once, and its usage, read when it is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::time::{Guid, Timestamp};

/// How long what was read of the usage is told: counting processes takes long on a full host.
const USAGE_LASTS: Duration = Duration::from_secs(1);

/// A processor package of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessorPackage {
    /// The name of the model.
    pub model_name: Option<String>,
    /// The word by which the processor names its maker (`GenuineIntel`).
    pub vendor: Option<String>,
    /// Its family, model and stepping.
    pub identity: Option<(u16, u16, u16)>,
    /// Cores; at least one.
    pub cores: u32,
    /// Threads of execution; at least as many as cores.
    pub threads: u32,
    /// Clock now, in MHz.
    pub current_mhz: Option<u32>,
    /// Highest clock, in MHz.
    pub max_mhz: Option<u32>,
}

/// What of the host is used, at one instant. Memory is in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostUsage {
    /// What could be given out without swapping.
    pub available_memory: Option<u64>,
    /// What is not used of the swap space.
    pub free_swap: Option<u64>,
    /// Processes.
    pub processes: Option<u32>,
}

/// Knows the host, from the files in which Linux describes it. What a file does not tell is `None`.
#[derive(Debug, Default)]
pub struct HostInspector {
    root: PathBuf,
    usage: Mutex<Option<(Timestamp, HostUsage)>>,
    /// The identity of the hardware, or where that is not readable, of the installation of the system.
    pub uuid: Option<Guid>,
    /// Who made the hardware.
    pub vendor: Option<String>,
    /// What they call it.
    pub product_name: Option<String>,
    /// The version they gave it.
    pub product_version: Option<String>,
    /// The number they gave this one.
    pub serial_number: Option<String>,
    /// What the system calls itself.
    pub system_name: Option<String>,
    /// The release of the kernel.
    pub kernel_release: Option<String>,
    /// When the kernel was started, in seconds since 1970.
    pub booted: Option<i64>,
    /// Memory in bytes.
    pub total_memory: Option<u64>,
    /// Swap space in bytes.
    pub total_swap: Option<u64>,
    /// Its processors; at least one.
    pub processors: Vec<ProcessorPackage>,
}

impl HostInspector {
    /// Reads what does not change, from the file system at `root`.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let text = |path: &str| word(&fs::read_to_string(root.join(path)).ok()?);
        let dmi = |name: &str| text(&format!("sys/class/dmi/id/{name}"));
        let uuid = dmi("product_uuid").or_else(|| text("etc/machine-id"));
        let memory = Numbers::of_memory(root);
        Self {
            uuid: uuid.and_then(|text| text.parse().ok()),
            vendor: dmi("sys_vendor"),
            product_name: dmi("product_name"),
            product_version: dmi("product_version"),
            serial_number: dmi("product_serial"),
            system_name: system_name(&fs::read_to_string(root.join("etc/os-release")).unwrap_or_default()),
            kernel_release: text("proc/sys/kernel/osrelease"),
            booted: booted(&fs::read_to_string(root.join("proc/stat")).unwrap_or_default()),
            total_memory: memory.bytes("MemTotal"),
            total_swap: memory.bytes("SwapTotal"),
            processors: processors(root),
            root: root.to_owned(),
            usage: Mutex::default(),
        }
    }

    /// What is used at a time that is now, or was within the last second.
    #[must_use]
    pub fn usage(&self, now: Timestamp) -> HostUsage {
        let mut last = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, usage)) = *last
            && (now - at).abs().to_std().is_ok_and(|age| age < USAGE_LASTS)
        {
            return usage;
        }
        let usage = self.read_usage();
        *last = Some((now, usage));
        usage
    }

    /// How long each virtual processor of a machine has run, by its number.
    ///
    /// `process` is that of QEMU, which names the threads of virtual processors `CPU 0/KVM` when it is told to, as
    /// this server and libvirt tell it. Of a process that has gone, or whose threads have other names, there is none.
    #[must_use]
    pub fn processor_times(&self, process: u32) -> BTreeMap<u32, Duration> {
        let Ok(threads) = fs::read_dir(self.root.join(format!("proc/{process}/task"))) else {
            return BTreeMap::new();
        };
        threads.filter_map(|thread| processor_time(&thread.ok()?.path())).collect()
    }

    fn read_usage(&self) -> HostUsage {
        let memory = Numbers::of_memory(&self.root);
        HostUsage {
            available_memory: memory.bytes("MemAvailable"),
            free_swap: memory.bytes("SwapFree"),
            processes: processes(&self.root),
        }
    }
}

/// Number and time of the virtual processor that a thread is.
fn processor_time(thread: &Path) -> Option<(u32, Duration)> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    let (number, _) = name.strip_prefix("CPU ")?.split_once('/')?;
    let times = fs::read_to_string(thread.join("schedstat")).ok()?;
    // The first number: nanoseconds on a processor.
    let time = times.split_ascii_whitespace().next()?.parse().ok()?;
    Some((number.parse().ok()?, Duration::from_nanos(time)))
}

/// A line that says something.
fn word(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The numbers of `/proc/meminfo`.
struct Numbers(String);

impl Numbers {
    fn of_memory(root: &Path) -> Self {
        Self(fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default())
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(found, _)| *found == name)?;
        let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        kilobytes.checked_mul(1024)
    }
}

/// `PRETTY_NAME` of `os-release`, without its quotes.
fn system_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    word(value.trim().trim_matches(['"', '\'']))
}

fn booted(text: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn processes(root: &Path) -> Option<u32> {
    let entries = fs::read_dir(root.join("proc")).ok()?;
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let found = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_number)).count();
    u32::try_from(found).ok()
}

/// The packages, in the order of `/proc/cpuinfo`.
fn processors(root: &Path) -> Vec<ProcessorPackage> {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let mut packages: BTreeMap<String, ProcessorPackage> = BTreeMap::new();
    for thread in text.split("\n\n") {
        let value = |name: &str| {
            let mut pairs = thread.lines().filter_map(|line| line.split_once(':'));
            pairs.find(|(found, _)| found.trim() == name).and_then(|(_, value)| word(value))
        };
        if value("processor").is_none() {
            continue;
        }
        let number = |name: &str| value(name).and_then(|text| text.parse().ok());
        let identity = || Some((number("cpu family")?, number("model")?, number("stepping").unwrap_or(0)));
        let mhz = value("cpu MHz").and_then(|text| text.split('.').next()?.parse().ok());
        let package = packages.entry(value("physical id").unwrap_or_default()).or_insert_with(|| ProcessorPackage {
            model_name: value("model name"),
            vendor: value("vendor_id"),
            identity: identity(),
            cores: value("cpu cores").and_then(|text| text.parse().ok()).unwrap_or(0),
            threads: 0,
            current_mhz: mhz,
            max_mhz: None,
        });
        package.threads += 1;
    }
    let max_mhz = fs::read_to_string(root.join("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"));
    let max_mhz: Option<u32> = max_mhz.ok().and_then(|text| text.trim().parse::<u32>().ok()).map(|khz| khz / 1000);
    let mut packages: Vec<ProcessorPackage> = packages.into_values().collect();
    if packages.is_empty() {
        packages.push(ProcessorPackage { threads: 1, ..ProcessorPackage::default() });
    }
    for package in &mut packages {
        // Where the cores are not told, each thread is one; and a part of a package may be all that is given to us.
        package.cores = if package.cores == 0 { package.threads } else { package.cores.min(package.threads) };
        package.max_mhz = max_mhz.or(package.current_mhz);
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_host_is_read_from_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "sys/class/dmi/id/sys_vendor", "Example Inc.\n");
        write(root, "sys/class/dmi/id/product_serial", " \n");
        write(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        write(root, "etc/os-release", "NAME=x\nPRETTY_NAME=\"Some Linux 12\"\n");
        write(root, "proc/sys/kernel/osrelease", "6.1.0-20-amd64\n");
        write(root, "proc/stat", "cpu 1 2\nbtime 1700000000\n");
        write(root, "proc/meminfo", "MemTotal:  2048 kB\nMemAvailable: 1024 kB\nSwapTotal: 0 kB\nHugePages_Total: 0\n");
        let thread = |processor: u32, package: u32| {
            format!(
                "processor\t: {processor}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
                 model name\t: Some CPU\nstepping\t: 7\ncpu MHz\t\t: 2100.123\nphysical id\t: {package}\ncpu cores\t: 1\n"
            )
        };
        write(root, "proc/cpuinfo", &[thread(0, 0), thread(1, 0), thread(2, 1), thread(3, 1)].join("\n"));
        write(root, "proc/17/stat", "");
        let host = HostInspector::open(root);
        assert_eq!((host.vendor.as_deref(), host.serial_number.as_deref()), (Some("Example Inc."), None));
        assert_eq!(host.uuid.map(|uuid| uuid.to_string()).as_deref(), Some("01234567-89AB-CDEF-0123-456789ABCDEF"));
        assert_eq!((host.system_name.as_deref(), host.booted), (Some("Some Linux 12"), Some(1_700_000_000)));
        assert_eq!((host.total_memory, host.total_swap), (Some(2 << 20), Some(0)));
        assert_eq!(host.processors.len(), 2);
        let first = host.processors.first().unwrap();
        assert_eq!((first.cores, first.threads, first.identity), (1, 2, Some((6, 85, 7))));
        assert_eq!((first.current_mhz, first.max_mhz), (Some(2100), Some(2100)));
        let usage = HostUsage { available_memory: Some(1 << 20), free_swap: None, processes: Some(1) };
        // `sys` is no process, and neither is `cpuinfo`.
        let now = Timestamp::default();
        assert_eq!(host.usage(now), usage);
        write(root, "proc/18/stat", "");
        assert_eq!(host.usage(now), usage);
        let later = HostUsage { processes: Some(2), ..usage };
        assert_eq!(host.usage(now + USAGE_LASTS), later);
    }

    #[test]
    fn threads_with_the_names_of_processors_tell_their_times() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (thread, name, times) in [
            (7, "qemu-system-x86\n", "9 9 9\n"),
            (8, "CPU 1/TCG\n", "1500000000 8 9\n"),
            (9, "CPU 0/KVM\n", "42 8 9\n"),
            (10, "CPU x/KVM\n", "42 8 9\n"),
            (11, "CPU 2/KVM\n", "\n"),
        ] {
            write(root, &format!("proc/7/task/{thread}/comm"), name);
            write(root, &format!("proc/7/task/{thread}/schedstat"), times);
        }
        let host = HostInspector::open(root);
        let times = [(0, Duration::from_nanos(42)), (1, Duration::from_millis(1500))];
        assert_eq!(host.processor_times(7), times.into());
        assert_eq!(host.processor_times(8), BTreeMap::new());
    }

    #[test]
    fn a_host_that_tells_nothing_has_a_processor() {
        let directory = tempfile::tempdir().unwrap();
        let host = HostInspector::open(directory.path());
        assert_eq!((host.uuid, host.total_memory), (None, None));
        assert_eq!((host.processors.len(), host.processors.first().map(|one| one.cores)), (1, Some(1)));
    }
}
