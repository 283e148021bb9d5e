//! What protects the messages of a connection, whichever mechanism the logon used.

/// Why a message cannot be sealed or unsealed. Afterwards the context is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Changed, repeated, out of order, or of another context.
    #[error("the signature of the message is wrong")]
    Signature,
    /// All sequence numbers were used.
    #[error("the context is used up")]
    Exhausted,
    /// The mechanism refused; its own words.
    #[error("{0}")]
    Mechanism(String),
}

/// A security context: the keys of both directions of one connection. Messages must be unsealed in the order in
/// which they arrive and sealed in the order in which they leave.
///
/// A sealed message has two parts (`authentication.md` §6, §7): a header, which holds what the mechanism needs to
/// check it, and the data, which is as long as the clear text.
pub trait MessageSecurity: Send {
    /// Whether the client can seal. A context that cannot is only who asks.
    fn can_seal(&self) -> bool;

    /// Seals an answer in place; gives its header.
    ///
    /// # Errors
    /// When the mechanism cannot seal any more.
    fn seal(&mut self, message: &mut [u8]) -> Result<Vec<u8>, SealError>;

    /// Unseals the data of a request.
    ///
    /// # Errors
    /// When header and data are not exactly what is due next.
    fn unseal(&mut self, header: &[u8], data: Vec<u8>) -> Result<Vec<u8>, SealError>;

    /// Compares the client's `mechListMIC` (`authentication.md` §4).
    fn verify_mech_list(&mut self, list: &[u8], mic: &[u8]) -> bool;

    /// Makes our `mechListMIC`.
    ///
    /// # Errors
    /// When the mechanism cannot sign.
    fn sign_mech_list(&mut self, list: &[u8]) -> Result<Vec<u8>, SealError>;
}
