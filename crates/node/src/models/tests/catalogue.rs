//! The catalogue: the built-in one, and every rule broken once.

use crate::models::{Catalogue, CatalogueError, ServeForPay};

const ROW: &str = r#"
    version = 1
    [[model]]
    id = "a"
    name = "A"
    family = "Llama"
    architecture = "llama"
    parameters = "1B"
    file = "a.gguf"
    quant = "Q4_0"
    licence = "MIT"
    serve_for_pay = "yes"
    serve_for_pay_reason = "MIT allows it"
    about = "Short answers"
    sources = ["https://example.org/a.gguf"]
    sha256 = "00000000000000000000000000000000000000000000000000000000000000aa"
    cited = ["https://example.org/card"]
"#;

#[test]
fn the_built_in_catalogue_keeps_its_own_rules() {
    let catalogue = Catalogue::built_in().unwrap();
    assert!(catalogue.rows.len() >= 9, "{} rows", catalogue.rows.len());
    let starters: Vec<_> = catalogue.rows.iter().filter(|row| row.starter).collect();
    assert_eq!(starters.len(), 1);
    let starter = starters[0];
    assert_eq!(starter.file, "SmolLM2-135M-Instruct.Q4_1.gguf");
    assert_eq!(starter.size, Some(98_362_432));
    assert_eq!(
        starter.sha256.unwrap().to_string(),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    assert_eq!(starter.serve_for_pay, ServeForPay::Yes);
    assert_eq!(
        starter.system_prompt.as_deref(),
        Some("You are a helpful assistant.")
    );
    assert!(starter.head_len.is_some() && starter.pip.is_some());
}

#[test]
fn a_row_that_keeps_the_rules_is_read() {
    let row = &Catalogue::parse(ROW).unwrap().rows[0];
    assert_eq!(row.size, None);
    assert_eq!(row.sha256.unwrap().0[31], 0xaa);
}

#[test]
fn a_row_may_be_of_whatever_the_engine_runs() {
    for architecture in engine::ARCHITECTURES {
        let text = ROW.replace("\"llama\"", &format!("{architecture:?}"));
        assert_eq!(
            Catalogue::parse(&text).unwrap().rows[0].architecture,
            architecture
        );
    }
}

#[test]
fn every_broken_rule_is_named() {
    for (from, to, named) in [
        ("id = \"a\"", "id = \"A b\"", "id"),
        ("aa\"", "zz\"", "not a SHA-256"),
        ("aa\"", "\"", "not a SHA-256"),
        ("file = \"a.gguf\"", "file = \"../a.gguf\"", "file"),
        ("file = \"a.gguf\"", "file = \"a.exe\"", "file"),
        ("\"Q4_0\"", "\"IQ2_XS\"", "quant"),
        ("\"llama\"", "\"mamba\"", "architecture"),
        (
            "https://example.org/a.gguf",
            "http://example.org/a.gguf",
            "sources",
        ),
        (
            "https://example.org/a.gguf",
            "file:///etc/passwd",
            "sources",
        ),
        ("sources = [\"https://example.org/a.gguf\"]", "", "sources"),
        (
            "cited = [\"https://example.org/card\"]",
            "cited = []",
            "cited",
        ),
        ("about = \"Short answers\"", "about = \"\"", "about"),
        (
            "about = \"Short answers\"",
            "about = \"x\"\nhead_len = 5",
            "head_sha256",
        ),
        (
            "about = \"Short answers\"",
            "about = \"x\"\nsurprise = 5",
            "surprise",
        ),
        (
            "serve_for_pay = \"yes\"",
            "serve_for_pay = \"maybe\"",
            "maybe",
        ),
        ("version = 1", "version = 2", "version 2"),
        ("version = 1", "version = ", "read"),
    ] {
        let text = ROW.replace(from, to);
        assert_ne!(text, ROW, "{from}");
        let error = Catalogue::parse(&text).unwrap_err().to_string();
        assert!(error.contains(named), "{to}: {error}");
    }
}

#[test]
fn two_rows_share_nothing_that_names_a_file() {
    let row = ROW.split_once("[[model]]").unwrap().1;
    let again = |id: &str, file: &str, digest: &str| {
        let row = row
            .replace("id = \"a\"", id)
            .replace("file = \"a.gguf\"", file)
            .replace("00aa\"", digest);
        Catalogue::parse(&format!("{ROW}\n[[model]]{row}")).unwrap_err()
    };
    let twice = |error: CatalogueError| match error {
        CatalogueError::Twice { what, .. } => what,
        CatalogueError::Syntax(_)
        | CatalogueError::Version { .. }
        | CatalogueError::TooManyRows { .. }
        | CatalogueError::Field { .. } => panic!("{error}"),
    };
    assert_eq!(
        twice(again("id = \"a\"", "file = \"b.gguf\"", "00bb\"")),
        "id"
    );
    assert_eq!(
        twice(again("id = \"b\"", "file = \"A.gguf\"", "00bb\"")),
        "file"
    );
    assert_eq!(
        twice(again("id = \"b\"", "file = \"b.gguf\"", "00aa\"")),
        "sha256"
    );
}
