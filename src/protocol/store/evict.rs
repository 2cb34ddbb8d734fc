//! What a store may lose, for the model: the protocol itself never deletes the state, nor the record alone.

use super::{Fence, Slot};

impl Slot {
    /// The store needed room and took the state.
    pub(in crate::protocol) fn evict_state(&mut self) {
        self.state = None;
    }

    /// The store needed room and took the record.
    pub(in crate::protocol) fn evict_record(&mut self) {
        self.record = None;
    }

    /// As if fences were counted anew, which no store may do.
    pub(in crate::protocol) fn restart_fence(&mut self) -> Fence {
        if let Some(state) = &mut self.state {
            state.fence = Fence(1);
        }
        Fence(1)
    }
}
