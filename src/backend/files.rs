//! Work in progress.
/// Machines that are off, with disks in files.
pub struct FilesHypervisor(());
