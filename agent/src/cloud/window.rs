//! Events in flight: queued, written with a packet id, acknowledged.
//!
//! Pure. Records are removed from the log in order, so an acknowledgement takes effect once all
//! earlier ones have arrived.

use std::collections::VecDeque;

/// Maximum of unacknowledged events: the limit of the smallest hub, and few enough that no packet
/// id is reused while it is open.
pub(super) const SIZE: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Window {
    /// Oldest first.
    open: VecDeque<Open>,
    sent: u64,
}

#[derive(Debug)]
struct Open {
    position: u64,
    /// Set once the connection has written it.
    pkid: Option<u16>,
    acknowledged: bool,
}

impl Window {
    /// How many more events may be sent.
    pub(super) fn room(&self) -> usize {
        SIZE.saturating_sub(self.open.len())
    }

    /// Position up to which everything was queued on this connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Call when the connection ended: what was not acknowledged is read and sent again.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Marks everything up to this position as sent.
    pub(super) fn skip_to(&mut self, position: u64) {
        self.sent = position;
    }

    /// The record at `position` was queued.
    pub(super) fn handed_over(&mut self, position: u64) {
        self.sent = position;
        self.open.push_back(Open {
            position,
            pkid: None,
            acknowledged: false,
        });
    }

    /// The connection wrote the oldest unwritten event.
    pub(super) fn written(&mut self, pkid: u16) {
        if let Some(event) = self.open.iter_mut().find(|event| event.pkid.is_none()) {
            event.pkid = Some(pkid);
        }
    }

    /// Handles a PUBACK; returns the position up to which all are acknowledged, if that advanced.
    pub(super) fn acknowledged(&mut self, pkid: u16) -> Option<u64> {
        let matching = |event: &&mut Open| event.pkid == Some(pkid) && !event.acknowledged;
        if let Some(event) = self.open.iter_mut().find(matching) {
            event.acknowledged = true;
        }
        let mut position = None;
        while self.open.front().is_some_and(|event| event.acknowledged) {
            position = self.open.pop_front().map(|event| event.position);
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(positions: &[u64]) -> Window {
        let mut window = Window::default();
        for (position, pkid) in positions.iter().zip(1..) {
            window.handed_over(*position);
            window.written(pkid);
        }
        window
    }

    #[test]
    fn acknowledgements_out_of_order_take_effect_in_order() {
        let mut window = window(&[10, 11, 12]);
        assert_eq!(window.acknowledged(2), None);
        assert_eq!(window.acknowledged(1), Some(11));
        assert_eq!(window.acknowledged(1), None);
        assert_eq!(window.acknowledged(3), Some(12));
        assert_eq!(window.room(), SIZE);
    }

    #[test]
    fn an_unwritten_event_cannot_be_acknowledged() {
        let mut window = Window::default();
        window.handed_over(10);
        assert_eq!(window.acknowledged(1), None);
        window.written(1);
        assert_eq!(window.acknowledged(7), None);
        assert_eq!(window.acknowledged(1), Some(10));
    }

    #[test]
    fn a_new_connection_starts_after_the_acknowledged_events() {
        let mut window = window(&[10, 11]);
        assert_eq!(window.sent(), 11);
        window.restart();
        assert_eq!((window.sent(), window.room()), (0, SIZE));
        assert_eq!(window.acknowledged(1), None);
    }
}
