//! Reading a whole key, for tests that compare stores.

use redis::Value;

use crate::store::redis::errors::Fault;
use crate::store::redis::link::Link;
use crate::store::redis::load::query;
use crate::store::redis::step::{list, text, texts};
use crate::store::{Dump, StoreError};

/// The value of a key, if it exists and its type is known.
pub(super) fn read(link: &mut Link, key: &str) -> Result<Option<Dump>, StoreError> {
    let kind = query(link, [cmd!("TYPE", key)], |replies| replies.text())?;
    let (verb, arguments): (&str, &[&str]) = match kind.as_deref() {
        Some("string") => ("GET", &[]),
        Some("set") => ("SMEMBERS", &[]),
        Some("list") => ("LRANGE", &["0", "-1"]),
        Some("hash") => ("HGETALL", &[]),
        Some("zset") => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        Some("stream") => ("XRANGE", &["-", "+"]),
        _ => return Ok(None),
    };
    let read = cmd!(verb, key, arguments);
    let value = query(link, [read], |replies| replies.value())?;
    shape(verb, value).map_err(Fault::into_store_error)
}

fn shape(verb: &str, value: Value) -> Result<Option<Dump>, Fault> {
    Ok(Some(match verb {
        "GET" => return Ok(text(value)?.map(Dump::Text)),
        "SMEMBERS" => Dump::Set(sorted(texts(value)?)),
        "LRANGE" => Dump::List(texts(value)?),
        "HGETALL" => Dump::Hash(sorted(pairs(value)?)),
        "ZRANGE" => Dump::Sorted(
            pairs(value)?
                .into_iter()
                .map(|(member, score)| (member, score.parse().unwrap_or(f64::NAN)))
                .collect(),
        ),
        _ => Dump::Stream(
            list(value)?
                .into_iter()
                .map(|entry| {
                    // An entry has its number and its fields.
                    let fields = list(entry)?.into_iter().nth(1);
                    fields.map_or(Ok(Vec::new()), pairs)
                })
                .collect::<Result<_, _>>()?,
        ),
    }))
}

fn pairs(value: Value) -> Result<Vec<(String, String)>, Fault> {
    let mut texts = texts(value)?.into_iter();
    Ok(std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect())
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}
