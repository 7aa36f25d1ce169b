//! The items that a living thread knows: those that may still change, and the latest others.

use std::collections::VecDeque;

use super::record::{ItemRecord, ItemState};

/// Items that are remembered; older ones live in the store only.
const MOST_ITEMS: usize = 512;

/// Memory that they may take, in bytes. Overflow rule: the oldest completed one is forgotten, or
/// the oldest at all; a forgotten one that is said again becomes a row of its own.
const MOST_BYTES: usize = 256 * 1024;

/// The latest items, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    items: VecDeque<ItemRecord>,
    bytes: usize,
}

impl Remembered {
    pub(super) fn of(items: Vec<ItemRecord>) -> Self {
        let mut remembered = Self::default();
        for item in items {
            remembered.add(item);
        }
        remembered
    }

    /// Adds an item and forgets what is too much.
    pub(super) fn add(&mut self, item: ItemRecord) {
        self.bytes += item.weight();
        self.items.push_back(item);
        while self.items.len() > MOST_ITEMS || (self.bytes > MOST_BYTES && self.items.len() > 1) {
            // A completed item is only kept for a late repetition; an open one is still needed.
            let oldest = self.items.iter().position(|item| item.state != ItemState::Open);
            if let Some(item) = self.items.remove(oldest.unwrap_or(0)) {
                self.bytes = self.bytes.saturating_sub(item.weight());
            }
        }
    }

    /// Changes the latest item that is meant.
    pub(super) fn change<R>(
        &mut self,
        is_meant: impl Fn(&ItemRecord) -> bool,
        change: impl FnOnce(&mut ItemRecord) -> R,
    ) -> Option<R> {
        // What is said now is nearly always of the latest items.
        let item = self.items.iter_mut().rev().find(|item| is_meant(item))?;
        let before = item.weight();
        let changed = change(item);
        self.bytes = (self.bytes + item.weight()).saturating_sub(before);
        Some(changed)
    }

    /// Changes the oldest item that is meant.
    pub(super) fn change_oldest(
        &mut self,
        is_meant: impl Fn(&ItemRecord) -> bool,
        change: impl FnOnce(&mut ItemRecord),
    ) {
        if let Some(item) = self.items.iter_mut().find(|item| is_meant(item)) {
            let before = item.weight();
            change(item);
            self.bytes = (self.bytes + item.weight()).saturating_sub(before);
        }
    }

    /// Looks at each item and may change it, but not its texts.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ItemRecord> {
        self.items.iter_mut()
    }

    /// Forgets the items of a turn.
    pub(super) fn forget_turn(&mut self, turn_id: &str) {
        self.items.retain(|item| item.turn_id != turn_id);
        self.bytes = self.items.iter().map(ItemRecord::weight).sum();
    }

    #[cfg(test)]
    pub(super) fn is_bounded(&self) -> bool {
        let bytes: usize = self.items.iter().map(ItemRecord::weight).sum();
        bytes == self.bytes
            && self.items.len() <= MOST_ITEMS
            && (self.bytes <= MOST_BYTES || self.items.len() == 1)
    }
}
