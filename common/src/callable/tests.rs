//! Pickles made by cloudpickle 3.0.0 of expression objects of earthdaily-earthone 5.0.3, and by Python's
//! pickle in older protocols; damaged ones; and functions.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// `(p.a == 1) | (p.b >= 2)) & (p.c < "2024-01-01")`
const NESTED: &str = "gAWVDQEAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDUFuZEV4cHJlc3Npb26Uk5QpgZR9lIwFcGFydHOUXZQoaACMDE9yRXhwcmVzc2lvbpSTlCmBlH2UaAVdlChoAIwMRXFFeHByZXNzaW9ulJOUKYGUfZQojARuYW1llIwBYZSMBXZhbHVllEsBdWJoAIwPUmFuZ2VFeHByZXNzaW9ulJOUKYGUfZQoaBCMAWKUaAV9lIwDZ3RllEsCc3ViZXNiaBQpgZR9lChoEIwBY5RoBX2UjAJsdJSMCjIwMjQtMDEtMDGUc3ViZXNiLg==";
/// `lambda i: i.cloud_fraction < 0.3 and i.acquired.month >= 2`
const LAMBDA: &str = "gAWVAAIAAAAAAACMF2Nsb3VkcGlja2xlLmNsb3VkcGlja2xllIwOX21ha2VfZnVuY3Rpb26Uk5QoaACMDV9idWlsdGluX3R5cGWUk5SMCENvZGVUeXBllIWUUpQoSwFLAEsASwFLAkoDAAABQziXAHwAagAAAAAAAAAAAGQBawAAAAAAbw98AGoBAAAAAAAAAABqAgAAAAAAAAAAZAJrBQAAAABTAJRORz/TMzMzMzMzSwKHlIwOY2xvdWRfZnJhY3Rpb26UjAhhY3F1aXJlZJSMBW1vbnRolIeUjAFplIWUjAg8Y29ycHVzPpSMCDxsYW1iZGE+lGgRSwFDHYAAiCHUChqYU9IKINAKOqBRpFrUJTW4EdIlOoAAlEMAlCkpdJRSlH2UjAhfX25hbWVfX5SMCF9fbWFpbl9flHNOTk50lFKUaACMEl9mdW5jdGlvbl9zZXRzdGF0ZZSTlGgafZR9lChoF2gRjAxfX3F1YWxuYW1lX1+UaBGMD19fYW5ub3RhdGlvbnNfX5R9lIwOX19rd2RlZmF1bHRzX1+UTowMX19kZWZhdWx0c19flE6MCl9fbW9kdWxlX1+UaBiMB19fZG9jX1+UTowLX19jbG9zdXJlX1+UTowXX2Nsb3VkcGlja2xlX3N1Ym1vZHVsZXOUXZSMC19fZ2xvYmFsc19flH2UdYaUhlIwLg==";

fn read(text: &str) -> Result<Permitted, CallableError> {
    decide(Place::Predicate, text)
}

#[track_caller]
fn reads_as(text: &str, expect: serde_json::Value) {
    match read(text) {
        Ok(Permitted::Predicate(predicate)) => {
            assert_eq!(predicate, Predicate::parse(&expect.to_string()).unwrap());
        }
        Err(error) => panic!("{expect}: {error}"),
    }
}

#[test]
fn expression_objects_are_read_as_what_they_say() {
    reads_as(
        "gAWVcAAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDEVxRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMA2Zvb5SMBXZhbHVllEsFdWIu",
        json!({"op": "eq", "name": "foo", "val": 5}),
    );
    reads_as(
        "gAWVdAAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDEVxRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMA2Zvb5SMBXZhbHVllIwDYSBilHViLg==",
        json!({"op": "eq", "name": "foo", "val": "a b"}),
    );
    reads_as(
        "gAWVbQAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDE5lRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMAXSUjAV2YWx1ZZSIdWIu",
        json!({"op": "ne", "name": "t", "val": true}),
    );
    reads_as(
        "gAWVbQAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDEVxRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMAXiUjAV2YWx1ZZROdWIu",
        json!({"op": "isnull", "name": "x"}),
    );
    reads_as(
        "gAWVaQAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMEElzTnVsbEV4cHJlc3Npb26Uk5QpgZR9lIwEbmFtZZSMA2Zvb5RzYi4=",
        json!({"op": "isnull", "name": "foo"}),
    );
    reads_as(
        "gAWVbAAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SME0lzTm90TnVsbEV4cHJlc3Npb26Uk5QpgZR9lIwEbmFtZZSMA2Zvb5RzYi4=",
        json!({"op": "isnotnull", "name": "foo"}),
    );
    reads_as(
        "gAWVdgAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMEFByZWZpeEV4cHJlc3Npb26Uk5QpgZR9lCiMBG5hbWWUjAJpZJSMBXZhbHVllIwCUzKUdWIu",
        json!({"op": "prefix", "name": "id", "val": "S2"}),
    );
    reads_as(
        "gAWVdAAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDkxpa2VFeHByZXNzaW9ulJOUKYGUfZQojARuYW1llIwCaWSUjAV2YWx1ZZSMAmEllHViLg==",
        json!({"op": "like", "name": "id", "val": "a%"}),
    );
    reads_as(
        "gAWVdQAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMD0lMaWtlRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMAmlklIwFdmFsdWWUjAJBX5R1Yi4=",
        json!({"op": "ilike", "name": "id", "val": "A_"}),
    );
    reads_as(
        "gAWVgQAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMD1JhbmdlRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMAXGUjAVwYXJ0c5R9lCiMAmd0lEsFjAJsdJRLCnV1Yi4=",
        json!([{"op": "gt", "name": "q", "val": 5}, {"op": "lt", "name": "q", "val": 10}]),
    );
    reads_as(
        "gAWVugAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDE9yRXhwcmVzc2lvbpSTlCmBlH2UjAVwYXJ0c5RdlChoAIwMRXFFeHByZXNzaW9ulJOUKYGUfZQojARuYW1llIwDZm9vlIwFdmFsdWWUSwF1YmgIKYGUfZQoaAtoDGgNSwJ1YmgIKYGUfZQoaAtoDGgNSwN1YmVzYi4=",
        json!({"or": [{"op": "eq", "name": "foo", "val": 1}, {"op": "eq", "name": "foo", "val": 2}, {"op": "eq", "name": "foo", "val": 3}]}),
    );
    reads_as(
        "gAWVvQAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMDUFuZEV4cHJlc3Npb26Uk5QpgZR9lIwFcGFydHOUXZQoaACMD1JhbmdlRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMA2Zvb5RoBX2UjAJndJRLBXN1YmgIKYGUfZQoaAtoDGgFfZSMAmx0lEdAJQAAAAAAAHN1YmVzYi4=",
        json!({"and": [[{"op": "gt", "name": "foo", "val": 5}], [{"op": "lt", "name": "foo", "val": 10.5}]]}),
    );
    reads_as(
        "gAJjZWFydGhkYWlseS5lYXJ0aG9uZS5jb3JlLmNvbW1vbi5wcm9wZXJ0eV9maWx0ZXJpbmcuZmlsdGVyaW5nCkFuZEV4cHJlc3Npb24KcQApgXEBfXECWAUAAABwYXJ0c3EDXXEEKGNlYXJ0aGRhaWx5LmVhcnRob25lLmNvcmUuY29tbW9uLnByb3BlcnR5X2ZpbHRlcmluZy5maWx0ZXJpbmcKUmFuZ2VFeHByZXNzaW9uCnEFKYFxBn1xByhYBAAAAG5hbWVxCFgDAAAAZm9vcQloA31xClgCAAAAZ3RxC0sFc3ViaAUpgXEMfXENKGgIaAloA31xDlgCAAAAbHRxD0dAJQAAAAAAAHN1YmVzYi4=",
        json!({"and": [[{"op": "gt", "name": "foo", "val": 5}], [{"op": "lt", "name": "foo", "val": 10.5}]]}),
    );
    reads_as(
        "gANjZWFydGhkYWlseS5lYXJ0aG9uZS5jb3JlLmNvbW1vbi5wcm9wZXJ0eV9maWx0ZXJpbmcuZmlsdGVyaW5nCk9yRXhwcmVzc2lvbgpxACmBcQF9cQJYBQAAAHBhcnRzcQNdcQQoY2VhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZwpFcUV4cHJlc3Npb24KcQUpgXEGfXEHKFgEAAAAbmFtZXEIWAMAAABmb29xCVgFAAAAdmFsdWVxCksBdWJoBSmBcQt9cQwoaAhoCWgKSwJ1YmgFKYFxDX1xDihoCGgJaApLA3ViZXNiLg==",
        json!({"or": [{"op": "eq", "name": "foo", "val": 1}, {"op": "eq", "name": "foo", "val": 2}, {"op": "eq", "name": "foo", "val": 3}]}),
    );
    reads_as(
        NESTED,
        json!({"and": [
            {"or": [{"op": "eq", "name": "a", "val": 1}, [{"op": "gte", "name": "b", "val": 2}]]},
            [{"op": "lt", "name": "c", "val": "2024-01-01"}],
        ]}),
    );
}

#[test]
fn an_expression_is_a_condition_and_nothing_else() {
    for place in [Place::Key, Place::Reducer, Place::Code] {
        assert_eq!(decide(place, NESTED), Err(CallableError::Pickled { place }));
    }
}

#[test]
fn everything_else_is_refused_as_a_callable() {
    let module = MODULE;
    let opcodes: [(&str, Vec<u8>); 9] = [
        // os.system("true"), as one would write it by hand.
        ("reduce", b"\x80\x04cos\nsystem\nX\x04\0\0\0true\x85R.".to_vec()),
        (
            "a class of the module that is no expression",
            format!("\u{0}c{module}\nProperty\n)\u{1}.").into_bytes(),
        ),
        ("a class elsewhere", b"\x80\x02cos\nEqExpression\n)\x81.".to_vec()),
        ("a class itself", format!("\u{0}c{module}\nEqExpression\n.").into_bytes()),
        ("an expression without members", format!("\u{0}c{module}\nEqExpression\n)\u{1}.").into_bytes()),
        ("a constant", b"\x80\x02K\x01.".to_vec()),
        ("nothing", b"\x80\x02.".to_vec()),
        ("no end", b"\x80\x02K\x01".to_vec()),
        ("a persistent id", b"\x80\x02Pid\n.".to_vec()),
    ];
    for (name, bytes) in opcodes {
        // Placeholders for what is no text.
        let bytes: Vec<u8> = match bytes.as_slice() {
            [0, rest @ ..] => {
                let rest = rest.iter().map(|byte| if *byte == 1 { 0x81 } else { *byte });
                [0x80, 2].into_iter().chain(rest).collect()
            }
            _ => bytes,
        };
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        let error = read(&text).unwrap_err();
        assert_eq!(error, CallableError::Pickled { place: Place::Predicate }, "{name}");
        assert!(error.to_string().contains("callable") && error.to_string().contains("traced"), "{error}");
    }
    // A function, and a time that only Python could make.
    let time = "gAWV1AAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMD1JhbmdlRXhwcmVzc2lvbpSTlCmBlH2UKIwEbmFtZZSMCGFjcXVpcmVklIwFcGFydHOUfZSMAmd0lIwIZGF0ZXRpbWWUjAhkYXRldGltZZSTlEMKB+gBAQAAAAAAAJRoCowIdGltZXpvbmWUk5RoCowJdGltZWRlbHRhlJOUSwBLAEsAh5RSlIWUUpSGlFKUc3ViLg==";
    for text in [LAMBDA, time] {
        assert_eq!(read(text), Err(CallableError::Pickled { place: Place::Predicate }));
    }
    for text in ["", "median", "gA", "!!!!", "AAAA"] {
        assert!(matches!(read(text), Err(CallableError::Unreadable { .. })), "{text}");
    }
    // Longer than what is looked into: refused without a look.
    let long = format!("gAQ{}", "A".repeat(PICKLE_BYTES_MAX * 2));
    assert_eq!(read(&long), Err(CallableError::Pickled { place: Place::Predicate }));
}

#[test]
fn expressions_that_hold_themselves_or_unfold_are_refused() {
    let object = |parts: &str| format!("c{MODULE}\nAndExpression\n)\u{1}{parts}");
    let encode = |text: String| {
        let bytes = text.bytes().map(|byte| if byte == 1 { 0x81 } else { byte });
        let bytes: Vec<u8> = [0x80, 2].into_iter().chain(bytes).collect();
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    // a.parts = [a]
    let itself = object("q\u{5}}X\u{5}\0\0\0parts](h\u{5}esb.");
    assert_eq!(read(&encode(itself)), Err(CallableError::Pickled { place: Place::Predicate }));
    // Levels that hold the one below them twice: few are a condition, many would be one of millions.
    let nested = |levels: u8| {
        let empty = object("}X\u{5}\0\0\0parts]sb");
        let level = |below: String, at: u8| {
            let at = char::from(at + 8);
            object(&format!("}}X\u{5}\0\0\0parts]({below}q{at}h{at}esb"))
        };
        encode((0..levels).fold(empty, level) + ".")
    };
    assert!(read(&nested(8)).is_ok());
    assert_eq!(read(&nested(30)), Err(CallableError::Pickled { place: Place::Predicate }));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_none_are_accepted(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(Reader::read(&bytes), None);
        let pickle = [&[0x80, 4][..], &bytes].concat();
        prop_assert_eq!(Reader::read(&pickle), None);
    }

    /// A damaged expression may still be one, with another constant; a damaged function never is.
    #[test]
    fn no_damage_makes_it_panic_or_a_function_acceptable(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for (text, is_data) in [(NESTED, true), (LAMBDA, false)] {
            let mut bytes = unwrap(text).expect("a pickle");
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            prop_assert!(is_data || Reader::read(&bytes).is_none());
            if let Some(condition) = Reader::read(&bytes) {
                let _ = Predicate::from_literal(&condition);
            }
            bytes.truncate(cut.index(bytes.len()));
            prop_assert_eq!(Reader::read(&bytes), None);
        }
    }
}
