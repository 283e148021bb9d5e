//! The profile of the conformance suite, its page, and the list of rows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use wsnapd::conformance::{Finding, Format, Profile, Report, Verdict, rows, write_report};

/// The TOML blocks of the page.
fn blocks() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let page = fs::read_to_string(page).unwrap();
    page.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// The keys of a profile, with their sections, as the sources have them.
fn keys() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance/profile.rs");
    let source = fs::read_to_string(source).unwrap();
    let fields = source.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
    fields.filter(|(name, _)| !name.contains(' ')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_checklist_is_there_row_by_row() {
    let ids: Vec<&str> = rows().iter().map(|row| row.id).collect();
    let expected: Vec<String> = (1..=187).map(|number| format!("C{number:03}")).collect();
    assert_eq!(ids, expected);
    assert!(rows().iter().all(|row| !row.rule.is_empty() && !row.requirement.is_empty()));
}

#[test]
fn the_page_has_the_default_profile_and_every_key() {
    let [whole, more] = &blocks()[..] else { panic!("two blocks of TOML are on the page") };
    assert_eq!(Profile::parse(whole).unwrap(), Profile::demo());
    let further = Profile::parse(more).unwrap();
    assert!(further.second_account.is_some() && further.slow.is_some());
    let page = format!("{whole}{more}");
    let named = |key: &str| page.contains(&format!("\n{key} = ")) || page.contains(&format!("{key}]\n"));
    let missing: Vec<String> = keys().into_iter().filter(|key| !named(key)).collect();
    assert_eq!(missing, Vec::<String>::new(), "docs/conformance.md lacks keys of a profile");
}

#[test]
fn a_profile_is_the_demo_s_where_it_says_nothing_and_has_no_unknown_keys() {
    assert_eq!(Profile::parse("").unwrap(), Profile::demo());
    let other = Profile::parse("[cim]\nclass = \"Win32_Service\"\n").unwrap();
    assert_eq!((other.change, other.embedded, other.put, other.create), (None, None, None, None));
    for wrong in ["colour = 1", "[cim]\nklass = \"X\"", "[second_account]\nuser = \"x\"", "[limits]\nwait_seconds = -1"]
    {
        assert!(Profile::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_form_of_a_report_shows_every_result() {
    let finding = |result: Verdict, reason: Option<&str>| {
        let row = rows()[0];
        Finding {
            id: row.id,
            rule: row.rule,
            requirement: row.requirement,
            result,
            reason: reason.map(str::to_owned),
            exchanges: Vec::new(),
            milliseconds: 1,
        }
    };
    let findings = vec![
        finding(Verdict::Pass, None),
        finding(Verdict::Fail, Some("expected <a> & \"b\"")),
        finding(Verdict::NotOffered, Some("w:UnsupportedFeature")),
        finding(Verdict::NotApplicable, Some("no second account")),
    ];
    let report = Report { url: "http://host/wsman".to_owned(), findings, left_behind: vec!["a snapshot".to_owned()] };
    let table = write_report(&report, Format::Table);
    for part in ["pass", "FAIL", "not offered", "not applicable", "expected <a>", "left behind: a snapshot"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(table.contains("4 rows: 1 pass, 1 fail, 1 not offered, 1 not applicable; 0.004 s; http://host/wsman"));
    let json: serde_json::Value = serde_json::from_str(&write_report(&report, Format::Json)).unwrap();
    assert_eq!((json["fail"].as_u64(), json["rows"][2]["result"].as_str()), (Some(1), Some("not_offered")));
    let junit = write_report(&report, Format::Junit);
    assert!(junit.contains("tests=\"4\" failures=\"1\" skipped=\"2\""), "{junit}");
    assert!(
        junit.contains("<failure message=\"expected &lt;a> &amp; &quot;b&quot;\"") || junit.contains("&lt;a&gt;"),
        "{junit}"
    );
}
