//! Tests of `address`: what is read, what is refused and how, and that no password is ever shown.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn read(url: &str) -> StoreUrl {
    url.parse().unwrap_or_else(|e| panic!("{url}: {e}"))
}

fn redis(url: &str) -> RedisAddress {
    match read(url) {
        StoreUrl::Redis(address) => address,
        StoreUrl::Embedded(dir) => panic!("{url} was read as the directory {dir:?}"),
    }
}

fn at(host: &str, port: u16) -> RedisPlace {
    RedisPlace::Tcp {
        host: host.to_owned(),
        port,
    }
}

#[test]
fn an_embedded_store_is_a_directory() {
    assert_eq!(read("embedded:data"), StoreUrl::Embedded("data".into()));
    assert_eq!(
        read("embedded:/a b/%41"),
        StoreUrl::Embedded("/a b/%41".into())
    );
}

#[test]
fn port_and_database_have_defaults() {
    for url in [
        "redis://db",
        "redis://db/",
        "redis://db:6379",
        "redis://db:6379/0",
    ] {
        let address = redis(url);
        assert_eq!((address.place, address.db), (at("db", 6379), 0), "{url}");
        assert_eq!((address.user, address.password), (None, None), "{url}");
    }
    let address = redis("redis://10.0.0.7:7000/15");
    assert_eq!((address.place, address.db), (at("10.0.0.7", 7000), 15));
    let address = redis("redis://[2001:DB8::1]:7000/2");
    assert_eq!((address.place, address.db), (at("2001:db8::1", 7000), 2));
    assert_eq!(redis("redis://[::1]").place, at("::1", 6379));
}

#[test]
fn user_and_password_are_decoded() {
    let address = redis("redis://an%3At:p%40ss%2Fw:%C3%B6rd@db");
    assert_eq!(address.user.as_deref(), Some("an:t"));
    assert_eq!(address.password.as_deref(), Some("p@ss/w:örd"));
    assert_eq!(address.to_string(), "redis://an%3At:***@db:6379/0");

    let address = redis("redis://:secret@db");
    assert_eq!(
        (address.user, address.password.as_deref()),
        (None, Some("secret"))
    );
    let address = redis("redis://:@db");
    assert_eq!((address.user, address.password), (None, None));
    // An @ that is not written %40 still belongs to the password: the last one ends it.
    assert_eq!(redis("redis://u:a@b@db").password.as_deref(), Some("a@b"));
}

#[test]
fn a_unix_socket_takes_the_database_as_an_option() {
    let address = redis("redis+unix:///run/redis.sock?db=3");
    assert_eq!(address.place, RedisPlace::Unix("/run/redis.sock".into()));
    assert_eq!(address.db, 3);
    let address = redis("redis+unix://ant:secret@/run/my%20redis.sock");
    assert_eq!(address.place, RedisPlace::Unix("/run/my redis.sock".into()));
    assert_eq!((address.user.as_deref(), address.db), (Some("ant"), 0));
    assert_eq!(
        address.to_string(),
        "redis+unix://ant:***@/run/my%20redis.sock?db=0"
    );
}

fn several(hosts: &[(&str, u16)], transport: RedisTransport) -> RedisSeeds {
    let own = |(host, port): &(&str, u16)| ((*host).to_owned(), *port);
    RedisSeeds {
        hosts: hosts.iter().map(own).collect(),
        transport,
    }
}

#[test]
fn sentinels_and_their_master_are_read() {
    let sentinel = |hosts: &[(&str, u16)]| RedisPlace::Sentinel {
        seeds: several(hosts, RedisTransport::Plain),
        master: "ants-1".to_owned(),
    };
    let address = redis("redis+sentinel://ant:secret@s1:5000,s2,[::1]:7/ants-1/3");
    let hosts = [("s1", 5_000), ("s2", 26_379), ("::1", 7)];
    assert_eq!(address.place, sentinel(&hosts));
    assert_eq!((address.user.as_deref(), address.db), (Some("ant"), 3));
    let shown = "redis+sentinel://ant:***@s1:5000,s2:26379,[::1]:7/ants-1/3";
    assert_eq!(address.to_string(), shown);
    for url in [
        "redis+sentinel://s1/ants-1",
        "redis+sentinel://s1:26379/ants-1/",
    ] {
        let address = redis(url);
        assert_eq!(
            (address.place, address.db),
            (sentinel(&[("s1", 26_379)]), 0)
        );
    }
}

#[test]
fn servers_of_a_cluster_are_read() {
    let address = redis("redis+cluster://:secret@c1,c2:7001");
    let seeds = several(&[("c1", 6_379), ("c2", 7_001)], RedisTransport::Plain);
    assert_eq!(address.place, RedisPlace::Cluster(seeds));
    assert_eq!(address.to_string(), "redis+cluster://:***@c1:6379,c2:7001");
    let many = |count| {
        (0..count)
            .map(|n| format!("h{n}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    redis(&format!("redis+cluster://{}", many(REDIS_SEEDS_MAX)));
    let error = format!("redis+cluster://{}", many(REDIS_SEEDS_MAX + 1));
    let error = error.parse::<StoreUrl>().expect_err("too many").to_string();
    assert!(error.contains("names too many servers"), "{error}");
}

#[cfg(feature = "tls")]
#[test]
fn groups_of_servers_are_reached_over_tls() {
    let transport = || RedisTransport::Tls {
        ca: Some("/etc/ca.pem".into()),
    };
    let address = redis("rediss+sentinel://s1/ants?ca=/etc/ca.pem");
    let place = RedisPlace::Sentinel {
        seeds: several(&[("s1", 26_379)], transport()),
        master: "ants".to_owned(),
    };
    assert_eq!(address.place, place);
    let shown = "rediss+sentinel://s1:26379/ants/0?ca=/etc/ca.pem";
    assert_eq!(address.to_string(), shown);
    let address = redis("rediss+cluster://c1?ca=/etc/ca.pem");
    assert_eq!(
        address.place,
        RedisPlace::Cluster(several(&[("c1", 6_379)], transport()))
    );
    assert_eq!(
        address.to_string(),
        "rediss+cluster://c1:6379?ca=/etc/ca.pem"
    );
    let tls = |host: &str| transport().to(host, 7);
    assert!(matches!(
        tls("x"),
        RedisPlace::Tls {
            port: 7,
            ca: Some(_),
            ..
        }
    ));
}

#[cfg(feature = "tls")]
#[test]
fn tls_takes_an_authority_as_an_option() {
    let tls = |host: &str, port, ca: Option<&str>| RedisPlace::Tls {
        host: host.to_owned(),
        port,
        ca: ca.map(PathBuf::from),
    };
    let address = redis("rediss://ant:secret@db:7000/3?ca=/etc/my%20ca.pem");
    assert_eq!(address.place, tls("db", 7000, Some("/etc/my ca.pem")));
    assert_eq!((address.user.as_deref(), address.db), (Some("ant"), 3));
    let shown = "rediss://ant:***@db:7000/3?ca=/etc/my%20ca.pem";
    assert_eq!(address.to_string(), shown);
    assert_eq!(redis("rediss://[::1]").place, tls("::1", 6379, None));
    assert_eq!(
        redis("rediss://db?ca=a.pem").place,
        tls("db", 6379, Some("a.pem"))
    );
    for (url, wanted) in [
        ("rediss://db/0?db=1", "has an option other than ca=FILE"),
        ("rediss://db/0?ca=", "has no good path in ca=FILE"),
        ("rediss://db/0?ca=%zz", "has no good path in ca=FILE"),
        (
            "rediss://db/x",
            "has a database that is not a number from 0 to 65535",
        ),
        (
            "rediss://",
            "has no good host: a name, an IPv4 address, or an IPv6 address in [ ]",
        ),
    ] {
        let error = url.parse::<StoreUrl>().expect_err(url).to_string();
        assert_eq!(error, format!("\"rediss://…\" {wanted}"), "{url}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_so() {
    let error = "rediss://db".parse::<StoreUrl>().expect_err("refused");
    assert!(error.to_string().contains("which this build does not have"));
}

#[test]
fn an_error_names_the_part_and_its_forms() {
    let forms = "embedded:DIR, redis://[user:password@]host:port/db, \
                 rediss://[user:password@]host:port/db?ca=FILE, \
                 redis+unix://[user:password@]/path?db=N, \
                 redis+sentinel://[user:password@]host:port,…/MASTER/db, \
                 redis+cluster://[user:password@]host:port,… or the last two with rediss";
    let host = "has no good host: a name, an IPv4 address, or an IPv6 address in [ ]";
    let port = "has a port that is not a number from 1 to 65535";
    let db = "has a database that is not a number from 0 to 65535";
    let master = "has no good name of a master: it is …host:port/MASTER, of A-Z a-z 0-9 . _ -";
    let percent = "has a % in its user or password that is not %XX of UTF-8";
    let cases = [
        ("", format!("is not a store's URL: it may be {forms}")),
        ("redis", format!("\"redis\" is not a store's URL: it may be {forms}")),
        ("/var/lib/ants", format!("\"/var/lib/ants\" is not a store's URL: it may be {forms}")),
        ("a secret", format!("is not a store's URL: it may be {forms}")),
        ("u:secret@h", format!("is not a store's URL: it may be {forms}")),
        ("http://h", format!("\"http://…\" is not a kind of store: it may be {forms}")),
        ("redis+sentinel://", format!("\"redis+sentinel://…\" {host}")),
        ("redis+sentinel://h:1", format!("\"redis+sentinel://…\" {master}")),
        ("redis+sentinel://h:1/", format!("\"redis+sentinel://…\" {master}")),
        ("redis+sentinel://h:1/a b", format!("\"redis+sentinel://…\" {master}")),
        ("redis+sentinel://h:1/m?ca=x", format!("\"redis+sentinel://…\" {master}")),
        ("redis+sentinel://h:1,/m", format!("\"redis+sentinel://…\" {host}")),
        ("redis+sentinel://h:1/m/x", format!("\"redis+sentinel://…\" {db}")),
        ("redis+sentinel://h,h:26379/m", "\"redis+sentinel://…\" names a server twice".to_owned()),
        ("redis+cluster://h:0", format!("\"redis+cluster://…\" {port}")),
        ("redis+cluster://h,i:x", format!("\"redis+cluster://…\" {port}")),
        (
            "redis+cluster://h/1",
            "\"redis+cluster://…\" has a database, and a Cluster has only one".to_owned(),
        ),
        ("redis+cluster://h?x", "\"redis+cluster://…\" has options, and may have none".to_owned()),
        ("embedded:", "\"embedded:…\" has no directory: it must be embedded:DIR".to_owned()),
        ("redis://", format!("\"redis://…\" {host}")),
        ("redis://a b", format!("\"redis://…\" {host}")),
        ("redis://::1", format!("\"redis://…\" {host}")),
        ("redis://[::1", "\"redis://…\" has a [ without its ]".to_owned()),
        ("redis://[x]", "\"redis://…\" has no IPv6 address in its [ ]".to_owned()),
        ("redis://[::1]7", format!("\"redis://…\" {port}")),
        ("redis://h:", format!("\"redis://…\" {port}")),
        ("redis://h:0", format!("\"redis://…\" {port}")),
        ("redis://h:+1", format!("\"redis://…\" {port}")),
        ("redis://h:65536", format!("\"redis://…\" {port}")),
        ("redis://h/x", format!("\"redis://…\" {db}")),
        ("redis://h/-1", format!("\"redis://…\" {db}")),
        ("redis://h?db=1", "\"redis://…\" has options, and may have none".to_owned()),
        ("redis://:%zz@h", format!("\"redis://…\" {percent}")),
        ("redis://:%ff@h", format!("\"redis://…\" {percent}")),
        ("redis://:a%4@h", format!("\"redis://…\" {percent}")),
        (
            "redis://secret@h",
            "\"redis://…\" has a user without a password: a password alone is written :password@"
                .to_owned(),
        ),
        ("redis://user:@h", "\"redis://…\" has a user without a password".to_owned()),
        (
            "redis://:a/b@h",
            "\"redis://…\" has an @ behind its address: in a password / ? # and @ are written %2F %3F %23 %40"
                .to_owned(),
        ),
        (
            "redis+unix://h/s",
            "\"redis+unix://…\" has a host: the socket's path begins with / behind redis+unix:// or the @"
                .to_owned(),
        ),
        ("redis+unix://", "\"redis+unix://…\" has no good path to a socket".to_owned()),
        ("redis+unix:///", "\"redis+unix://…\" has no good path to a socket".to_owned()),
        ("redis+unix:///s%00", "\"redis+unix://…\" has no good path to a socket".to_owned()),
        ("redis+unix:///s?x=1", "\"redis+unix://…\" has an option other than db=N".to_owned()),
        ("redis+unix:///s?db=", format!("\"redis+unix://…\" {db}")),
    ];
    for (url, wanted) in cases {
        let error = url.parse::<StoreUrl>().expect_err(url);
        assert_eq!(error.to_string(), wanted, "{url}");
    }
}

/// A part of a URL with every byte written `%XX`.
fn all_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back_as_the_same(
        host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., db in 0i64..65_536,
        path in "/[a-z /?#%@:ö]{1,20}", v6 in any::<u128>(),
    ) {
        let v6 = Ipv6Addr::from(v6).to_string();
        let seeds = several(&[(&host, port), (&v6, port)], RedisTransport::Plain);
        let sentinel = RedisPlace::Sentinel { seeds: seeds.clone(), master: host.clone() };
        let cluster = RedisAddress {
            place: RedisPlace::Cluster(seeds), user: None, password: None, db: 0,
        };
        prop_assert_eq!(redis(&cluster.to_string()), cluster);
        for place in [at(&host, port), at(&v6, port), RedisPlace::Unix(path.into()), sentinel] {
            let address = RedisAddress { place, user: None, password: None, db };
            prop_assert_eq!(redis(&address.to_string()), address);
        }
    }

    #[test]
    fn a_password_goes_in_and_never_comes_out(
        // Nothing of what is around it in the text has these characters.
        password in "[Q-Z!$&ö/@:%]{6,24}", user in "[a-z]{0,8}",
    ) {
        let encoded = all_encoded(&password);
        for url in [
            format!("redis://{user}:{encoded}@db:6379/0"),
            format!("redis+unix://{user}:{encoded}@/run/redis.sock"),
            format!("redis+sentinel://{user}:{encoded}@s1,s2/ants"),
            format!("redis+cluster://{user}:{encoded}@c1,c2"),
        ] {
            let address = redis(&url);
            prop_assert_eq!(address.password.as_deref(), Some(&*password));
            let shown = format!("{address} {address:?} {:?} {}", read(&url), read(&url));
            prop_assert!(!shown.contains(&password), "{}", shown);
            prop_assert!(!shown.contains(&encoded), "{}", shown);
        }
    }

    #[test]
    fn an_error_repeats_nothing_of_the_url(secret in "[Q-Z]{6,24}", place in 0usize..12) {
        let url = [
            format!("rediss://u:{secret}@h/0?x"),
            format!("u:{secret}@h"),
            format!("{secret}://h"),
            format!("redis://u:{secret}%@h"),
            format!("redis://:a/{secret}@h"),
            format!("redis://h:{secret}"),
            format!("redis://h/{secret}"),
            format!("redis+unix:///s?pass={secret}"),
            format!("redis://{secret}@h"),
            format!("redis+sentinel://u:{secret}@h,i:x/m"),
            format!("redis+sentinel://h/{secret}/{secret}"),
            format!("redis+cluster://u:{secret}@h/{secret}"),
        ][place].clone();
        let error = url.parse::<StoreUrl>().expect_err(&url);
        let shown = format!("{error} {error:?}");
        prop_assert!(!shown.contains(&secret), "{}", shown);
    }

    #[test]
    fn no_text_makes_it_panic(url in "(redis://|rediss://|redis\\+unix://|redis\\+(sentinel|cluster)://|embedded:|)\\PC{0,40}") {
        if let Ok(url) = url.parse::<StoreUrl>() {
            prop_assert!(!url.to_string().is_empty());
        }
    }
}
