//! Rules that a test may switch off, to show that the simulator notices. Nothing of this is in the
//! product: without `cfg(test)` every rule is obeyed by constant.

/// A rule switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Claims without asking the LAN.
    NoProbe,
    /// Asks the LAN, but does not wait for a lease that the peer's kernel still holds.
    NoLeaseWait,
    /// Takes its own sleep for the peer's silence, and renews after it as if nothing had happened.
    NoStallRule,
    /// Counts every authentic frame, whatever incarnations it names.
    NoTwoWayProof,
    /// Never clears `alone` on disk.
    AloneNeverCleared,
    /// Claims `dead_after` after any start.
    NoBootPatience,
    /// Claims with a generation that is not on disk.
    NoPersistedGeneration,
}
