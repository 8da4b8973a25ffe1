use super::Script;
use crate::store::spool::fuzzing;

/// Fuzz target `spool`: whatever stands in a segment, its intact records are found, and once its torn
/// tail is cut off nothing of it is torn.
///
/// The first byte of `data` says whether the rest is a segment, or payloads of which one is made.
///
/// # Panics
/// When that is not so.
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
