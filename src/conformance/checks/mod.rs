//! The checks, a file for each part of the checklist.

mod actions;
mod addressing;
mod cim;
mod common;
mod control;
mod encoding;
mod enumeration;
mod eventing;
mod faults;
mod mapping;
mod microsoft;
mod transfer;

use super::row::Row;

/// The parts of the checklist, in order.
pub(super) static PARTS: [&[Row]; 12] = [
    addressing::ROWS,
    control::ROWS,
    transfer::ROWS,
    enumeration::ROWS,
    actions::METHODS,
    eventing::ROWS,
    actions::IDENTIFY_ROWS,
    encoding::ROWS,
    faults::ROWS,
    cim::ROWS,
    mapping::ROWS,
    microsoft::ROWS,
];
