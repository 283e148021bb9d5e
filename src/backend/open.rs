//! Turns the configuration of a back-end into the back-end.

use std::path::Path;
use std::sync::Arc;

use super::{
    BackendError, Cause, DirectoryPools, FilesHypervisor, Hypervisor, MachineDefinition, PoolDefinition,
    QemuHypervisor, QemuSettings, SimulatedHypervisor, SimulatedScript, VolumeManager,
};

/// The configuration section `[backend]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// `files`, `qemu` or `simulated`.
    pub kind: String,
    /// How QEMU is used.
    pub qemu: QemuSettings,
    /// How the simulated host behaves.
    pub simulated: SimulatedScript,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self { kind: "files".to_owned(), qemu: QemuSettings::default(), simulated: SimulatedScript::default() }
    }
}

/// An opened back-end.
#[derive(Clone)]
pub struct Backend {
    /// The machines.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The pools and volumes.
    pub volumes: Arc<dyn VolumeManager>,
}

/// Opens the back-end that `config` names; snapshot files go below `data_dir`.
///
/// # Errors
/// A [`BackendError`] for an unknown kind, or when a directory cannot be made or a definition is wrong.
pub fn open(
    config: &BackendConfig,
    data_dir: &Path,
    machines: Vec<MachineDefinition>,
    pools: Vec<PoolDefinition>,
) -> Result<Backend, BackendError> {
    let hypervisor: Arc<dyn Hypervisor> = match config.kind.as_str() {
        "files" => Arc::new(FilesHypervisor::open(data_dir, machines)?),
        "qemu" => Arc::new(QemuHypervisor::open(data_dir, machines, config.qemu.clone())?),
        "simulated" => Arc::new(SimulatedHypervisor::scripted(machines, &config.simulated)),
        other => {
            let text = format!("unknown kind {other:?}, expected \"files\", \"qemu\" or \"simulated\"");
            return Err(BackendError::new("open the back-end", Cause::NotSupported(text)));
        }
    };
    Ok(Backend { hypervisor, volumes: Arc::new(DirectoryPools::open(pools)?) })
}
