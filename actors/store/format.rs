//! The form of everything in the store, and the gate that each store passes when it is opened.
//!
//! | Format | Form |
//! |---|---|
//! | 0 | values as they are; no format is written down |
//! | 1 | checked values, long ones in chunks ([`super::envelope`], [`super::chunks`]) |

use super::engine::{Engine, EngineError};
use super::keys;
use super::scan::Scan;

/// The format that this program writes.
pub(super) const CURRENT: u32 = 1;

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// Nothing at all.
    Empty,
    /// A known format.
    Known(u32),
    /// One that only a newer program knows, with that program's version.
    Newer {
        /// The format.
        format: u32,
        /// Version of the program that wrote it.
        program: String,
    },
}

/// What is written down of the current format: its number, and the program that can read it. Every
/// version writes it like this, bare.
pub(super) fn mark(program: &str) -> Vec<u8> {
    format!("{CURRENT} {program}").into_bytes()
}

/// Finds the format of a database.
pub(super) fn find<E: Engine>(engine: &E) -> Result<Format, EngineError> {
    let Some(mark) = engine.get(keys::FORMAT)? else {
        let anything = engine.page(&Scan::prefix(Vec::new()).limit(1))?;
        return Ok(if anything.is_empty() { Format::Empty } else { Format::Known(0) });
    };
    let damaged = || EngineError::Damaged("its format cannot be understood".to_owned());
    let text = String::from_utf8(mark).map_err(|_| damaged())?;
    let (format, program) = text.split_once(' ').ok_or_else(damaged)?;
    let format: u32 = format.parse().map_err(|_| damaged())?;
    match format {
        1..=CURRENT => Ok(Format::Known(format)),
        0 => Err(damaged()),
        _ => Ok(Format::Newer { format, program: program.to_owned() }),
    }
}
