//! Fuzz target `proxy`: any bytes as the beginning of a connection from a load balancer.

use crate::codec::proxy::{ProxyStep, proxy_header};

/// A header reads the same however it is cut, and no byte beyond it is asked for.
///
/// # Panics
/// When that does not hold.
pub fn proxy(data: &[u8]) {
    let whole = proxy_header(data);
    let mut had = 0;
    let stepwise = loop {
        match proxy_header(&data[..had]) {
            Ok(ProxyStep::Need(need)) if need <= data.len() => {
                assert!(need > had, "it goes on");
                had = need;
            }
            other => break other,
        }
    };
    match (whole, stepwise) {
        (Ok(ProxyStep::Need(one)), Ok(ProxyStep::Need(other))) => assert_eq!(one, other),
        (whole, stepwise) => assert_eq!(whole, stepwise),
    }
}
