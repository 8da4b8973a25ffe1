//! The worked example of `docs/keyed-sessions.md`: its values were computed by the Python there.

use super::*;

const DIRECTION: &str = "1843e6d864c79deaf553c29375bc36e708b7fba26cad6216beae2153a1febf9e";
const BACK: &str = "b1ae08b6c9a460192fdb010c0412263331dbd64c11ca0e810d1376fef05b915e";

fn key() -> Key {
    let mut bytes = [0; KEY_BYTES];
    (0..).zip(&mut bytes).for_each(|(n, byte)| *byte = n);
    Key::new(bytes)
}

fn transcript() -> Transcript<'static> {
    Transcript {
        server: Nonce::parse("00112233445566778899aabbccddeeff").unwrap(),
        client: Nonce::parse("ffeeddccbbaa99887766554433221100").unwrap(),
        id: "web-1",
        key_id: "fleet-2026",
        udp: Some(6655),
        push: false,
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    Hex(bytes.as_ref()).to_string()
}

#[test]
fn the_proofs_and_keys_are_those_of_the_example() {
    let (key, said) = (key(), transcript());
    let client = said.client_proof(&key);
    let server = said.server_proof(&key);
    assert_eq!(
        hex(client),
        "db6354fdc4605001374b6834518ca9ebf3c4e9d8f3ebb4234273c59df716db97"
    );
    assert_eq!(
        hex(server),
        "1a24b706b546b62c7d1215bbe1bb496daecef78dadfcbc15d60caafda60236e9"
    );
    assert!(said.client_has(&key, &client) && !said.client_has(&key, &server));
    assert!(said.server_has(&key, &server) && !said.server_has(&key, &client));
    let keys = said.directions(&key);
    assert_eq!(hex(keys.to_server), DIRECTION);
    assert_eq!(hex(keys.to_client), BACK);
    assert_eq!(
        hex(key.derive("web-1").bytes()),
        "8d638c21672e3199c3d9734cbe6b354e3b7202171a4bb32266e5edcfbc7bc057"
    );
}

#[test]
fn the_tag_of_the_first_frame_is_that_of_the_example() {
    let mut seal = Seal::new(bytes_of(DIRECTION).unwrap());
    let tag = seal.tag(br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive"}"#);
    assert_eq!(
        hex(tag),
        "dd107fed9bb0b47abc77ff85b9d366893760de69cea6a95cf820653f37649f98"
    );
}

#[test]
fn the_macs_of_datagrams_are_those_of_the_example() {
    let task = Content {
        flag: "ADH44",
        n: 1,
        field: "taskId",
        value: "AC131",
        rcc: None,
        cid: None,
    };
    let command = Content {
        n: 2,
        field: "command",
        value: "uptime",
        cid: Some("0123456789abcdef0123456789abcdef"),
        ..task
    };
    let answer = Content {
        flag: "ADH33",
        rcc: Some(1),
        ..task
    };
    let beat = Content {
        flag: "ADH18",
        n: 2,
        field: "",
        value: "",
        ..task
    };
    for (content, key, mac) in [
        (
            task,
            BACK,
            "57e9f46324c44d513c5288fc30c785f661c72a8c5f021c00e594a68424cd3054",
        ),
        (
            command,
            BACK,
            "37c150e050e4d9c4ca23679f2b90e4fbb9324ccacc8c25070525fd5f0a4d3afd",
        ),
        (
            answer,
            DIRECTION,
            "0921d40b917e10253d0712d760f9cd7adb3bbbc9f8f465a85302c97f6bf7405a",
        ),
        (
            beat,
            DIRECTION,
            "36e388aa0602fedd0c4714b9ac371c9c4cd566801cd3e1e74cdd663c22773f74",
        ),
    ] {
        let key = bytes_of(key).unwrap();
        assert_eq!(hex(content.mac(&key)), mac);
        assert!(content.has(&key, &bytes_of(mac).unwrap()));
    }
}

#[test]
fn every_part_of_the_transcript_is_proved() {
    let (key, said) = (key(), transcript());
    let proof = said.client_proof(&key);
    for other in [
        Transcript {
            server: said.client,
            ..said
        },
        Transcript {
            client: said.server,
            ..said
        },
        Transcript {
            id: "web-2",
            ..said
        },
        Transcript {
            key_id: "fleet-2025",
            ..said
        },
        Transcript { udp: None, ..said },
        Transcript { push: true, ..said },
    ] {
        assert!(!other.client_has(&key, &proof), "{other:?}");
    }
    assert!(!said.client_has(&key.derive("web-1"), &proof));
}

#[test]
fn a_nonce_is_exactly_what_it_may_be() {
    for wrong in [
        "",
        "0",
        "00112233445566778899AABBCCDDEEFF",
        "00112233445566778899aabbccddeefg",
        "00112233445566778899aabbccddeeff0",
    ] {
        assert!(Nonce::parse(wrong).is_none(), "{wrong}");
    }
    let nonce = Nonce::of([0xa5; 16]);
    assert_eq!(nonce.as_str(), "a5".repeat(16));
    assert_eq!(Nonce::parse(nonce.as_str()), Some(nonce));
}

#[test]
fn no_key_is_ever_shown() {
    let shown = format!(
        "{:?} {:?} {:?}",
        key(),
        transcript().directions(&key()),
        Guard::of_server(&transcript().directions(&key()))
    );
    assert!(
        !shown.contains("00, 01") && !shown.contains("0, 1, 2"),
        "{shown}"
    );
}
