//! What a table of MariaDB can hold is known before a file arrives. The server itself is asked where the limit is.

use crate::fixture::{Fixture, dataset};

/// A dataset with a key of 16 bytes and so many columns of a kind.
fn definition(columns: usize, kind: &str) -> String {
    let mut all = vec![r#"{ name = "id", type = "uuid" }"#.to_owned()];
    all.extend((0..columns).map(|at| format!("{{ name = \"c{at}\", {kind} }}")));
    format!("[items]\nkey = \"id\"\ncolumns = [{}]", all.join(", "))
}

/// Whether the server makes a table for such rows.
async fn is_made(fixture: &Fixture, toml: &str) -> bool {
    let dataset = dataset(toml);
    let publisher = fixture.store.publisher(&dataset).await.unwrap();
    let new = store::NewVersion { schema: dataset.schema.clone(), ..fixture.new_version() };
    match publisher.stage(new).await {
        Ok(staging) => {
            staging.abort("only a trial").await.unwrap();
            true
        }
        Err(_) => false,
    }
}

fn is_allowed(fixture: &Fixture, toml: &str) -> bool {
    fixture.store.check_schema(&dataset(toml).schema).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_long_for_mariadb_is_refused_exactly_where_the_server_refuses_it() {
    let fixture = Fixture::mariadb();
    for kind in [
        r#"type = "text", max = 255"#,
        r#"type = "text", max = 255, optional = true"#,
        r#"type = "text", max = 64"#,
        r#"type = "text", max = 63"#,
        r#"type = "text", max = 63, optional = true"#,
        r#"type = "text", max = 16"#,
        r#"type = "text", max = 9"#,
        r#"type = "text""#,
        r#"type = "decimal", precision = 38, scale = 30"#,
        r#"type = "timestamp", optional = true"#,
    ] {
        // The first number of columns that is refused: 256 columns are the most, with the key.
        let (mut fits, mut is_too_many) = (0, 256);
        while fits + 1 < is_too_many {
            let columns = usize::midpoint(fits, is_too_many);
            if is_made(&fixture, &definition(columns, kind)).await {
                fits = columns;
            } else {
                is_too_many = columns;
            }
        }
        assert!(is_allowed(&fixture, &definition(fits, kind)), "{fits} columns of {kind}");
        if is_too_many == 256 {
            continue;
        }
        assert!(!is_allowed(&fixture, &definition(is_too_many, kind)), "{is_too_many} columns of {kind}");
        // To the byte: what is left of the row is filled with a text of its own.
        let with_text = |max: usize| {
            let columns = definition(fits, kind);
            columns.replace(
                "columns = [",
                &format!("columns = [{{ name = \"rest\", type = \"text\", max = {max} }}, "),
            )
        };
        let most = (0..=63).rev().find(|max| *max == 0 || is_allowed(&fixture, &with_text(*max))).unwrap();
        for max in [most, most + 1].into_iter().filter(|max| (1..=63).contains(max)) {
            let toml = with_text(max);
            assert_eq!(
                is_made(&fixture, &toml).await,
                is_allowed(&fixture, &toml),
                "{fits} of {kind}, {max}"
            );
        }
    }
}

#[test]
fn a_column_that_innodb_has_itself_is_refused_on_mariadb_alone() {
    let (mariadb, embedded) = (Fixture::mariadb(), Fixture::embedded());
    for name in ["db_row_id", "DB_TRX_ID", "Db_Roll_Ptr"] {
        let toml = definition(1, r#"type = "integer""#).replace("c0", name);
        let schema = dataset(&toml).schema.clone();
        let refused = mariadb.store.check_schema(&schema).unwrap_err();
        assert_eq!(refused, format!("column `{name}`: InnoDB has a column of that name of its own"));
        assert_eq!(embedded.store.check_schema(&schema), Ok(()));
    }
}
