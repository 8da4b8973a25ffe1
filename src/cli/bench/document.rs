//! A report as JSON, with rounded figures: `0.1` and not `0.09999999999999999`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Returns the document with a final line feed.
///
/// # Errors
/// What cannot be JSON.
pub fn of(report: &impl Serialize) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let format = Rounded(PrettyFormatter::new());
    report.serialize(&mut Serializer::with_formatter(&mut text, format))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Pretty JSON with at most nine decimals: seconds to the nanosecond.
struct Rounded(PrettyFormatter<'static>);

/// Methods that forward to the inner formatter.
macro_rules! delegate {
    ($($name:ident($($argument:ident: $type:ty)?);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, out: &mut W $(, $argument: $type)?) -> io::Result<()> {
            self.0.$name(out $(, $argument)?)
        }
    )*};
}

impl Formatter for Rounded {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let short = format!("{value:.9}").parse().unwrap_or(value);
        self.0.write_f64(writer, short)
    }

    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_rounded_and_all_else_is_as_ever() {
        let report = json!({"a": [0.031_773_901_999_999_99, 1_764_000_000_123.25, 1e-12], "b": {"c": null}, "d": 7});
        let wanted =
            json!({"a": [0.031_773_902, 1_764_000_000_123.25, 0.0], "b": {"c": null}, "d": 7});
        let pretty = serde_json::to_string_pretty(&wanted).unwrap();
        assert_eq!(of(&report).unwrap(), format!("{pretty}\n"));
    }
}
