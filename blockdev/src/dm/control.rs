//! What is done to devices that run: pausing, growing, messages.

use super::{DeviceMapper, DmError, DmInfo, DmName, Target, wire};
use wire::Request;

/// The message that takes a removal back; the kernel itself answers it, whatever the target.
const CANCEL: &str = "@cancel_deferred_remove";

impl DeviceMapper {
    /// Lets no more reads and writes through until [`Self::resume`], and waits for those under way.
    pub fn suspend(&self, name: &DmName) -> Result<DmInfo, DmError> {
        let mut request = Request::new(name);
        request.set_flag(wire::SUSPENDED);
        self.info_of(name, "pause", wire::SUSPEND, request)
    }

    /// Puts another table in the place of the one in force. Reads and writes wait meanwhile.
    pub fn replace(
        &self,
        name: &DmName,
        table: &[Target],
        read_only: bool,
    ) -> Result<DmInfo, DmError> {
        self.load(name, table, read_only)?;
        self.suspend(name)?;
        self.resume(name)
    }

    /// Takes [`Self::remove_later`] back, while the device is in use.
    pub fn remain(&self, name: &DmName) -> Result<(), DmError> {
        let mut request = Request::new(name);
        request.set_message(CANCEL);
        self.call(name, "keep", wire::MESSAGE, request).map(|_| ())
    }
}
