//! Targets against a small fleet, and properties of the grammar.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::limits::{TARGET_BYTES_MAX, TARGET_PARTS_MAX, TARGET_PATTERNS_MAX};

use super::*;

/// A host of a test: id, address and labels.
struct Host {
    id: &'static str,
    ip: &'static str,
    labels: &'static [(&'static str, &'static str)],
}

impl Facts for Host {
    fn id(&self) -> &str {
        self.id
    }

    fn ip(&self) -> Option<IpAddr> {
        self.ip.parse().ok()
    }

    fn label(&self, key: &str, with: &mut dyn FnMut(&str)) {
        let own = self.labels.iter().find(|label| label.0 == key);
        match (own, key) {
            (Some((_, value)), _) => with(value),
            (None, "sys.state") => with("online"),
            _ => {}
        }
    }

    fn labels(&self, with: &mut dyn FnMut(&str, &str)) {
        self.labels.iter().for_each(|(key, value)| with(key, value));
    }
}

/// A host with a name only.
struct Named<'a>(&'a str);

impl Facts for Named<'_> {
    fn id(&self) -> &str {
        self.0
    }

    fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    fn label(&self, _: &str, _: &mut dyn FnMut(&str)) {}

    fn labels(&self, _: &mut dyn FnMut(&str, &str)) {}
}

#[rustfmt::skip] // A table.
const FLEET: [Host; 10] = [
    Host { id: "10.0.0.7", ip: "10.0.0.7", labels: &[] },
    Host { id: "allow", ip: "fd00::5", labels: &[] },
    Host { id: "db-001", ip: "10.1.9.1", labels: &[("role", "db"), ("env", "prod")] },
    Host { id: "db-010", ip: "10.1.2.1", labels: &[("role", "db"), ("env", "test")] },
    Host { id: "lb", ip: "10.1.0.1", labels: &[("env", "prod")] },
    Host { id: "web-1", ip: "10.1.0.2", labels: &[("role", "web"), ("env", "prod")] },
    Host { id: "web-10", ip: "10.1.9.3", labels: &[("role", "web"), ("env", "prod")] },
    Host { id: "web-2", ip: "10.1.0.4", labels: &[("role", "web"), ("env", "test")] },
    Host { id: "web-3.example", ip: "10.2.0.1", labels: &[("role", "web")] },
    Host { id: "fd00::7", ip: "fd00::7", labels: &[] },
];

fn groups() -> Groups {
    let group = |name: &str, text| (name.to_owned(), Arc::new(Target::parse(text).unwrap()));
    [
        group("prod-web", "web-*,env=prod"),
        group("most", "all,!@prod-web"),
        group("loop", "@loop"),
        group("wrong", "web-1,!wbe-2"),
    ]
    .into()
}

fn selected(text: &str) -> Result<Vec<&'static str>, String> {
    let target = Target::parse(text).map_err(|error| error.to_string())?;
    let selection = Selection::new(&target, &groups()).map_err(|error| error.to_string())?;
    let places = selection
        .select(&FLEET)
        .map_err(|error| error.to_string())?;
    Ok(places.into_iter().map(|at| FLEET[at].id).collect())
}

#[test]
fn names_add_up_labels_narrow_and_a_bang_takes_away() {
    let all: Vec<&str> = FLEET.iter().map(|host| host.id).collect();
    for (text, hosts) in [
        ("web-1", &["web-1"][..]),
        ("web-?", &["web-1", "web-2"]),
        ("web-*", &["web-1", "web-10", "web-2", "web-3.example"]),
        (" lb , web-1", &["lb", "web-1"]),
        ("web-1,lb,web-1", &["lb", "web-1"]),
        ("!web-1,web-*,!*.example", &["web-10", "web-2"]),
        ("all,!web-*,!db-*,!fd*", &["10.0.0.7", "allow", "lb"]),
        ("!web-*,! db-*,!fd00::/8", &["10.0.0.7", "lb"]),
        ("*", &all),
        ("all,all", &all),
        ("all,!all", &[]),
        ("::ffff:10.0.0.7", &["10.0.0.7"]),
        ("FD00:0::7", &["fd00::7"]),
        ("web-[1-9,10]", &["web-1", "web-10", "web-2"]),
        ("web-[1-3].example", &["web-3.example"]),
        ("db-[001-010]", &["db-001", "db-010"]),
        ("10.0.0.[1-9]", &["10.0.0.7"]),
        ("lb,!lb", &[]),
        (
            "10.1.0.0/16,!10.1.9.0/24",
            &["db-010", "lb", "web-1", "web-2"],
        ),
        ("role=web", &["web-1", "web-10", "web-2", "web-3.example"]),
        ("role=*,role!=web", &["db-001", "db-010"]),
        (
            "lb,web-*,env!=test",
            &["lb", "web-1", "web-10", "web-3.example"],
        ),
        ("role in (web, db),env=t*", &["db-010", "web-2"]),
        (
            "web-*,env notin (test)",
            &["web-1", "web-10", "web-3.example"],
        ),
        ("web-*,!env=test", &["web-1", "web-10", "web-3.example"]),
        ("web-*,!env!=test", &["web-2"]),
        ("web-*,env!=*", &["web-3.example"]),
        (
            "web-*,sys.state=online,!web-?",
            &["web-10", "web-3.example"],
        ),
        ("web-*,sys.state=offline", &[]),
        ("@prod-web", &["web-1", "web-10"]),
        ("@prod-web,lb", &["lb", "web-1", "web-10"]),
        ("web-*,!@prod-web", &["web-2", "web-3.example"]),
        (
            "@most,role=*",
            &["db-001", "db-010", "web-2", "web-3.example"],
        ),
        ("web-[1-99],db-*,role=*,env!=test,!10.1.9.0/24", &["web-1"]),
    ] {
        assert_eq!(selected(text).as_deref(), Ok(hosts), "{text}");
    }
}

#[test]
fn a_term_without_a_match_is_named_with_the_nearest() {
    for (text, said) in [
        (
            "wbe-1",
            "'wbe-1' matches no known host (did you mean 'web-1'?)",
        ),
        (
            "web-1,!wbe-2",
            "'!wbe-2' matches no known host (did you mean 'web-2'?)",
        ),
        ("zzz*", "'zzz*' matches no known host"),
        (
            "db-[1-10]",
            "'db-[1-10]' matches no known host (did you mean 'db-010'?)",
        ),
        ("web-[4-9]", "'web-[4-9]' matches no known host"),
        (
            "10.3.0.0/24",
            "'10.3.0.0/24' matches the address of no known host",
        ),
        (
            "role=wbe",
            "'role=wbe': no known host has role=wbe (did you mean 'role=web'?)",
        ),
        (
            "env!=tset",
            "'env!=tset': no known host has env=tset (did you mean 'env=test'?)",
        ),
        ("env!=x*", "'env!=x*': no known host has env=x*"),
        (
            "role in (web,bd)",
            "'role in (web,bd)': no known host has role=bd (did you mean 'role=db'?)",
        ),
        (
            "!rloe=web",
            "'!rloe=web': no known host has the label rloe (did you mean 'role'?)",
        ),
        (
            "sys.stat=online",
            "'sys.stat=online': no known host has the label sys.stat (did you mean 'sys.state'?)",
        ),
        (
            "sys.state=onlin",
            "'sys.state=onlin': no known host has sys.state=onlin (did you mean 'sys.state=online'?)",
        ),
        (
            "@prod-wbe",
            "'@prod-wbe' is no known group (did you mean '@prod-web'?)",
        ),
        ("@loop", "'@loop' leads through too many groups"),
        (
            "@wrong",
            "'!wbe-2' matches no known host (did you mean 'web-2'?)",
        ),
    ] {
        let error = selected(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert!(selected("@wrong").unwrap_err().starts_with("group wrong: "));
    // A long word is like no name, and is not compared with all of them.
    let error = selected(&format!("web-1{}", "a".repeat(60))).unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn each_mistake_is_named_with_its_term() {
    for (text, words) in [
        ("", "the target is empty"),
        (" ", "the target is empty"),
        ("a,,b", "has an empty term"),
        ("a,!", "'!' has an empty term"),
        ("a,", "has an empty term"),
        ("@", "'@': a group may be"),
        ("@a/b", "'@a/b': a group may be"),
        ("=web", "'=web': its key"),
        ("role=", "'role=': its value"),
        ("role==web", "'role==web': its value"),
        ("ro le=web", "'ro le=web': its key"),
        ("role=w b", "'role=w b': its value"),
        ("a,role in ()", "'role in ()': a value of its list"),
        ("role in (a,,b)", "a value of its list"),
        ("role in (a*)", "a value of its list"),
        ("role in (a", "'role in (a': its list does not end"),
        ("role within (a)", "'role within (a)': parentheses"),
        ("(web-1)", "'(web-1)': parentheses"),
        ("10.0.0.1/8", "'10.0.0.1/8': a network"),
        ("10.0.0.0/33", "a network"),
        ("web-[3-1]", "'web-[3-1]': a range"),
        ("web-[]", "a range"),
        ("web-[01-3]", "a range"),
        ("web-[1-3", "a range"),
        ("web-[1-9]*", "a range"),
        ("web-[1]-[2]", "a range"),
        ("w;b-[1]", "'w;b-[1]': no host name contains ';'"),
        ("a b", "'a b': no host name contains ' '"),
        ("a\u{1b}", "\\u{1b}"),
    ] {
        let said = Target::parse(text).unwrap_err().to_string();
        assert!(said.contains(words), "{text:?}: {said}");
    }
}

#[test]
fn names_numbers_and_values_share_one_bound() {
    let long = "a".repeat(TARGET_BYTES_MAX + 1);
    assert_eq!(Target::parse(&long), Err(TargetError::Long(long.len())));
    let many = vec!["a*"; TARGET_PATTERNS_MAX + 1].join(",");
    assert_eq!(Target::parse(&many), Err(TargetError::ManyPatterns));

    let numbers = |count: usize| (0..count).map(|n| (2 * n).to_string());
    let listed = |count| numbers(count).collect::<Vec<_>>().join(",");
    let half = TARGET_PARTS_MAX / 2;
    for (most, over) in [
        (listed(TARGET_PARTS_MAX), listed(TARGET_PARTS_MAX + 1)),
        (
            format!("w-[{}]", listed(TARGET_PARTS_MAX)),
            format!("w-[{}]", listed(TARGET_PARTS_MAX + 1)),
        ),
        (
            format!("k in ({})", listed(TARGET_PARTS_MAX)),
            format!("k in ({})", listed(TARGET_PARTS_MAX + 1)),
        ),
        (
            format!("w-[{0}],k in ({0})", listed(half)),
            format!("w-[{0}],k in ({0}),x", listed(half)),
        ),
    ] {
        assert!(Target::parse(&most).is_ok());
        assert_eq!(Target::parse(&over), Err(TargetError::ManyParts));
    }
}

#[test]
fn groups_count_with_the_target_that_names_them() {
    let named = |text: &str| Arc::new(Target::parse(text).unwrap());
    let ids: Vec<String> = (0..1_000).map(|n| format!("h{n}")).collect();
    let many = named(&ids.join(","));
    let globs = named(&vec!["a*"; 100].join(","));
    let name = |kind: &str, n: usize| format!("{kind}{n}");
    let groups: Groups = (0..5)
        .flat_map(|n| {
            [
                (name("ids", n), many.clone()),
                (name("globs", n), globs.clone()),
            ]
        })
        .collect();
    let of = |text: &str| Selection::new(&Target::parse(text).unwrap(), &groups);
    assert_eq!(of("@ids0,@globs0,@globs1").unwrap().cost(), 203);
    for over in ["@ids0,@ids1,@ids2,@ids3,@ids4", "@globs0,@globs1,@globs2"] {
        let said = of(over).unwrap_err().to_string();
        assert!(said.contains("with its groups"), "{said}");
    }
}

#[test]
fn a_value_of_a_list_is_looked_up() {
    assert_eq!(
        selected("role in (web,db,web),env notin (prod)").unwrap(),
        ["db-010", "web-2", "web-3.example"]
    );
    let said = selected("role in (web,wbe,db)").unwrap_err();
    assert!(
        said.contains("role=wbe (did you mean 'role=web'?)"),
        "{said}"
    );
}

#[test]
fn a_glob_is_no_longer_than_an_id() {
    let stars = format!("{}1", "*".repeat(200));
    assert_eq!(selected(&format!("web-{stars}")).unwrap(), ["web-1"]);
    let long = "w?".repeat(crate::limits::HOST_ID_BYTES_MAX);
    assert!(
        selected(&long)
            .unwrap_err()
            .contains("matches no known host")
    );
}

#[test]
fn a_match_of_the_configuration_has_no_labels() {
    let of = |text| Target::parse(text).unwrap().without_labels();
    assert!(of("web-*,!10.0.0.0/8,db-[1-3]").is_ok());
    assert!(
        of("web-*,role=web")
            .unwrap_err()
            .to_string()
            .starts_with("'role=web': only names")
    );
    assert!(of("@prod").is_err());
}

#[test]
fn a_glob_with_many_stars_ends() {
    let glob = |pattern: &str, text: &str| name::glob(pattern.as_bytes(), text.as_bytes());
    assert!(!glob(&"*a".repeat(30), &"b".repeat(60)));
    assert!(glob("**", "") && glob("a*?c", "abbc") && !glob("a?", "a"));
}

#[test]
fn hosts_are_folded_by_their_numbers() {
    for (hosts, text) in [
        (&["web-2", "web-1", "web-3", "web-7"][..], "web-[1-3,7]"),
        (&["web-10", "web-9", "web-1"], "web-[1,9-10]"),
        (&["lb", "db-010", "db-009"], "db-[009-010],lb"),
        (&["db-099", "db-100", "db-1"], "db-1,db-[099-100]"),
        (&["10.0.0.9", "10.0.0.10"], "10.0.0.[9-10]"),
        (&["10.0.10.1", "10.0.9.1"], "10.0.9.1,10.0.10.1"),
        (&["web-1.example", "web-2.example"], "web-[1-2].example"),
        (&["web-1", "web-1"], "web-1"),
        (&["fd00::1", "fd00::2"], "fd00::1,fd00::2"),
        (&["1", "2"], "[1-2]"),
        (&["all"], "\"all\""),
        (&[], ""),
    ] {
        assert_eq!(fold(hosts.iter().copied()), text);
    }
}

#[test]
fn many_named_hosts_are_looked_up() {
    let ids: Vec<String> = (0..4_000)
        .map(|n| format!("h{}.rack{}", n % 7, n))
        .collect();
    let hosts: Vec<Named<'_>> = ids.iter().map(|id| Named(id)).collect();
    let target = Target::parse(&ids.join(",")).unwrap();
    let selection = Selection::new(&target, &Groups::new()).unwrap();
    assert_eq!(selection.select(&hosts).unwrap().len(), ids.len());
    let target = Target::parse(&fold(ids.iter().map(String::as_str))).unwrap();
    let selection = Selection::new(&target, &Groups::new()).unwrap();
    assert_eq!(selection.select(&hosts).unwrap().len(), ids.len());
}

/// Ids of all shapes that the fold tells apart.
const ID: &str = "[ab]{1,2}-?0?[0-9]{0,3}(\\.[a-c0-9]{1,2})?|10\\.0\\.[0-2]\\.[0-9]{1,2}|[0-9]{1,3}|[a-f]:[0-9]{1,2}|fd00::[1-9a-f][0-9a-f]?|[a-c]{1,2}\\.[0-9]{1,3}";

/// A term of any kind that has a match in the fleet.
const TERM: &str = "web-\\*|web-1|lb|all|db-\\*|10\\.1\\.0\\.0/16|@most|web-\\[1-9\\]|role=web|env!=test|env in \\(prod,test\\)|role notin \\(db\\)|role=\\*";

fn terms(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<String>> {
    let term = proptest::string::string_regex(&format!("!?({TERM})")).unwrap();
    proptest::collection::vec(term, count)
}

fn places(text: &str) -> BTreeSet<&'static str> {
    selected(text).unwrap().into_iter().collect()
}

proptest! {
    #[test]
    fn parsing_a_folded_set_gives_the_set(
        hosts in proptest::collection::btree_set(ID, 1..40),
        others in proptest::collection::btree_set(ID, 0..40),
    ) {
        let text = fold(hosts.iter().map(String::as_str));
        let known: BTreeSet<&str> = hosts.iter().chain(&others).map(String::as_str).collect();
        let known: Vec<Named<'_>> = known.into_iter().map(Named).collect();
        let target = Target::parse(&text).unwrap();
        let selection = Selection::new(&target, &Groups::new()).unwrap();
        let found = selection.select(&known).unwrap();
        let found: BTreeSet<&str> = found.into_iter().map(|at| known[at].0).collect();
        let wanted: BTreeSet<&str> = hosts.iter().map(String::as_str).collect();
        prop_assert_eq!(found, wanted, "{}", text);
    }

    #[test]
    fn folding_does_not_depend_on_the_order(
        hosts in proptest::collection::btree_set(ID, 1..40),
    ) {
        let forward = fold(hosts.iter().map(String::as_str));
        prop_assert_eq!(forward, fold(hosts.iter().rev().map(String::as_str)));
    }

    #[test]
    fn order_of_the_terms_never_matters(
        (terms, other) in terms(1..6)
            .prop_flat_map(|terms| (Just(terms.clone()), Just(terms).prop_shuffle())),
    ) {
        prop_assert_eq!(selected(&terms.join(",")), selected(&other.join(",")));
    }

    #[test]
    fn a_label_or_a_bang_never_adds_a_host(
        terms in terms(1..5),
        more in "(role=web|env!=test|env in \\(prod,test\\)|role=\\*)|!(web-\\*|10\\.1\\.0\\.0/16|env=prod|@most)",
    ) {
        let before = places(&terms.join(","));
        let after = places(&format!("{},{more}", terms.join(",")));
        prop_assert!(after.is_subset(&before), "{terms:?} {more}: {after:?}");
    }

    #[test]
    fn a_name_never_removes_a_host(
        terms in terms(0..4),
        more in "web-\\*|web-1|lb|all|db-\\*|10\\.1\\.0\\.0/16|@most|web-\\[1-9\\]",
    ) {
        let terms = [&["lb".to_owned()][..], &terms].concat().join(",");
        let after = places(&format!("{terms},{more}"));
        prop_assert!(after.is_superset(&places(&terms)));
    }

    #[test]
    fn nothing_panics(text in "[a!,*?\\[\\]0-9 ()=@/.:inot-]{0,32}") {
        let _ = selected(&text);
    }
}
