//! All wrong values of a configuration file, for a check of the file.

use std::path::Path;

use super::error::{ConfigError, Place, shown_path};
use super::tree::Node;
use super::{Config, DEFAULT_FILE, Overrides, json, old, read_file, table};
use crate::limits::CONFIG_ERRORS_MAX;

impl Config {
    /// Reads the configuration as [`load`](Self::load) does. Every wrong value of the file is an
    /// error of its own, up to [`CONFIG_ERRORS_MAX`]; rules between values are checked when each is
    /// good.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), at least one.
    pub(crate) fn load_or_errors(path: Option<&Path>) -> Result<Self, Vec<ConfigError>> {
        let first = match Self::load(path, &Overrides::default()) {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        let name = shown_path(file);
        let root = read_file(file).map(|text| json(&name, &text));
        match root {
            Ok(Ok(root)) if !old::is_old(&root) => Err(errors(&name, root, first)),
            _ => Err(vec![first]),
        }
    }
}

/// All errors of the values in `root`, beginning with `first`. A value with an error is removed for
/// the next look. An object that then lacks a member is no error of the file.
fn errors(file: &str, mut root: Node, first: ConfigError) -> Vec<ConfigError> {
    let path_of = |error: &ConfigError| error.path_in(file).map(str::to_owned);
    let (mut path, mut errors, mut removed) = (path_of(&first), vec![first], Vec::new());
    while errors.len() < CONFIG_ERRORS_MAX
        && let Some(wrong) = path.take()
        && root.remove(&wrong)
        && let Err(next) = table::read(file, &root)
    {
        removed.push(wrong);
        path = path_of(&next);
        let lacks_a_member = |path: &String| {
            let mut inside = removed.iter().filter_map(|gone| gone.strip_prefix(path));
            inside.any(|rest| rest.starts_with(['.', '[']))
        };
        if !path.as_ref().is_some_and(lacks_a_member) {
            errors.push(next);
        }
    }
    errors
}

impl ConfigError {
    /// Path of the wrong value in the configuration called `file`, if it has one.
    fn path_in(&self, file: &str) -> Option<&str> {
        match self {
            Self::UnknownKey { file: of, key, .. } if of == file => Some(key),
            Self::Value {
                place: Place::Key { file: of, path },
                ..
            } if of == file => Some(path),
            _ => None,
        }
    }
}

impl Node {
    /// Removes what `path` names, such as `server.tcp` or `ak.devices[2].name`: the member of a
    /// member, or else of this object. Returns whether there was one.
    fn remove(&mut self, path: &str) -> bool {
        let Self::Object(members) = self else {
            return false;
        };
        let mut names = path.split(['.', '[']);
        let (first, second) = (names.next().unwrap_or_default(), names.next());
        let before = members.len();
        let inner = members.iter_mut().find(|(name, _)| name == first);
        match (inner, second) {
            (Some((_, Self::Object(inner))), Some(second)) => {
                let before = inner.len();
                inner.retain(|(name, _)| name != second);
                before > inner.len()
            }
            _ => {
                members.retain(|(name, _)| name != first);
                before > members.len()
            }
        }
    }
}
