//! Work in progress.
/// Pools that are directories, with volumes that are files.
pub struct DirectoryPools(());
