use super::Script;
use crate::store::spool::fuzzing;

/// Fuzz target `spool`: the intact records of any segment are found, and after its torn tail is cut off nothing of it is torn.
///
/// The first byte of `data` selects whether the rest is a segment, or payloads of which one is made.
///
/// # Panics
/// When that does not hold.
pub fn spool(data: &[u8]) {
    let mut script = Script(data);
    if script.byte().unwrap_or_default() % 2 == 0 {
        return fuzzing::segment(script.0);
    }
    let mut segment = Vec::new();
    while !script.0.is_empty() {
        fuzzing::wrap(script.bytes(), &mut segment);
    }
    fuzzing::segment(&segment);
}
