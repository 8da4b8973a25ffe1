//! Messages of hosts about tasks; each asks for a reply.

use sha2::{Digest as _, Sha256};

/// An answer to a dispatch.
pub fn rcc(code: u8, key: &str) -> String {
    format!(
        r#"{{"flag":"ADH33","RCC":{code},"taskId":"{key}","answerTime":1700000000,"reply":true}}"#
    )
}

/// A report of progress.
pub fn phase(number: u8, key: &str, working: &str, complete: &str, oncall: &str) -> String {
    format!(
        r#"{{"flag":"ADH27","code":"{key}","phase":{number},"working":{working},
           "complete":{complete},"oncall":{oncall},"reply":true}}"#
    )
}

/// The header of a result with these bytes behind it.
pub fn result(key: &str, command: &str, exit: i32, output: &[u8]) -> String {
    let digest = Sha256::digest(output);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let size = output.len();
    format!(
        r#"{{"flag":"ADH43","code":"{key}","task":"{command}","exit":{exit},"seconds":0.5,
           "total_size":{size},"sha256":"{digest}","truncated":false,"reply":true}}"#
    )
}
