//! `labels` and `groups`: labels of hosts, and targets known by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::error::ConfigError;
use super::value::Value;
use super::{LabelRule, TargetText};
use crate::codec::target::{Groups, Selection, is_label_text};
use crate::limits::{LABEL_RULES_MAX, LABELS_MAX, TARGET_GROUP_NAMES_MAX};

/// Reads `labels`.
pub(super) fn rules(v: &Value<'_>) -> Result<Vec<LabelRule>, ConfigError> {
    v.list(LABEL_RULES_MAX)?.iter().map(rule).collect()
}

fn rule(v: &Value<'_>) -> Result<LabelRule, ConfigError> {
    let entry = v.clone().section(&["match", "set"])?;
    let (Some(hosts), Some(set)) = (entry.get("match"), entry.get("set")) else {
        return Err(v.error("must have `match` and `set`".to_owned()));
    };
    let target = target(&hosts)?.without_labels();
    let target = target.map_err(|why| hosts.error(why.to_string()))?;
    let mut labels = BTreeMap::new();
    for (key, node) in set.members()? {
        let value = set.member(key, node);
        let text = value.text();
        if !is_label_text(key) || key.starts_with("sys.") || !is_label_text(text) {
            let is_not = "is not a label: key and value are 1 to 63 of A-Z a-z 0-9 . _ -, and no key begins with sys.";
            return Err(value.wrong(is_not));
        }
        labels.insert(key.clone(), text.to_owned());
    }
    if labels.len() > LABELS_MAX {
        return Err(set.error(format!(
            "has {} labels, and may have {LABELS_MAX}",
            labels.len()
        )));
    }
    Ok(LabelRule {
        hosts: Arc::new(target),
        set: labels,
    })
}

/// Reads `groups`. A group may name others.
pub(super) fn groups(v: &Value<'_>) -> Result<Groups, ConfigError> {
    let members = v.members()?;
    let (given, max) = (members.len(), TARGET_GROUP_NAMES_MAX);
    if given > max {
        return Err(v.error(format!("has {given} groups, and may have {max}")));
    }
    let mut groups = Groups::new();
    for (name, node) in members {
        let value = v.member(name, node);
        if !is_label_text(name) {
            let is_not = "is the target of a group whose name is not 1 to 63 of A-Z a-z 0-9 . _ -";
            return Err(value.wrong(is_not));
        }
        groups.insert(name.clone(), Arc::new(target(&value)?));
    }
    for (name, node) in members {
        if let Some(Err(why)) = groups.get(name).map(|group| Selection::new(group, &groups)) {
            return Err(v.member(name, node).error(why.to_string()));
        }
    }
    Ok(groups)
}

pub(super) fn target(v: &Value<'_>) -> Result<TargetText, ConfigError> {
    TargetText::parse(v.text()).map_err(|why| v.error(format!("is no target: {why}")))
}

/// `labels` as JSON.
pub(super) fn rules_json(rules: &[LabelRule]) -> Json {
    let rules = rules.iter();
    rules
        .map(|rule| json!({"match": rule.hosts.as_str(), "set": rule.set}))
        .collect()
}

/// `groups` as JSON.
pub(super) fn groups_json(groups: &Groups) -> Json {
    let groups = groups.iter();
    let groups = groups.map(|(name, target)| (name.clone(), json!(target.as_str())));
    Json::Object(groups.collect())
}
