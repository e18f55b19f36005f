//! Actions by SQL.

use super::Action::Sql;
use super::Case;

/// A case after which nothing keeps loads from working and nothing foreign is there.
const HARMLESS: Case = Case {
    name: "",
    action: Sql(""),
    remedy: None,
    foreign: &[],
    named: "promotions",
    is_known: true,
    can_be_read: true,
};

pub(super) const CASES: [Case; 24] = [
    Case {
        name: "a foreign table has the next number",
        action: Sql("CREATE TABLE promotions__v4 (note TEXT) SELECT 'not yours' AS note"),
        remedy: Some(Sql("DROP TABLE IF EXISTS promotions__v4")),
        foreign: &["promotions__v4"],
        named: "promotions__v4",
        ..HARMLESS
    },
    Case {
        name: "a foreign table has the number of the live version",
        action: Sql("CREATE TABLE promotions__v3 (note TEXT) SELECT 'not yours' AS note"),
        remedy: Some(Sql("DROP TABLE IF EXISTS promotions__v3")),
        foreign: &["promotions__v3"],
        named: "promotions__v3",
        ..HARMLESS
    },
    Case {
        name: "a foreign table has the highest number",
        action: Sql("CREATE TABLE promotions__v4294967295 (note TEXT) SELECT 'not yours' AS note"),
        remedy: Some(Sql("DROP TABLE IF EXISTS promotions__v4294967295")),
        foreign: &["promotions__v4294967295"],
        named: "promotions__v4294967295",
        ..HARMLESS
    },
    Case {
        name: "a foreign table of the highest number has a column of our name",
        action: Sql(
            "CREATE TABLE promotions__v4294967295 (dataset_version INT UNSIGNED AS (7) VIRTUAL, note TEXT);
            INSERT INTO promotions__v4294967295 (note) VALUES ('not yours')",
        ),
        remedy: Some(Sql("DROP TABLE IF EXISTS promotions__v4294967295")),
        foreign: &["promotions__v4294967295"],
        named: "promotions__v4294967295",
        ..HARMLESS
    },
    Case {
        name: "a foreign view has the next number",
        action: Sql("CREATE VIEW promotions__v4 AS SELECT 'not yours' AS note"),
        remedy: Some(Sql("DROP VIEW IF EXISTS promotions__v4")),
        foreign: &["promotions__v4"],
        named: "promotions__v4",
        ..HARMLESS
    },
    Case {
        name: "a foreign view has the number of the live version",
        action: Sql("CREATE VIEW promotions__v3 AS SELECT 'not yours' AS note"),
        remedy: Some(Sql("DROP VIEW IF EXISTS promotions__v3")),
        foreign: &["promotions__v3"],
        named: "promotions__v3",
        ..HARMLESS
    },
    Case {
        name: "a foreign view shows a kept version under the highest number",
        action: Sql("CREATE VIEW promotions__v4294967295 AS SELECT *, dataset_version FROM promotions__v1"),
        remedy: Some(Sql("DROP VIEW IF EXISTS promotions__v4294967295")),
        named: "promotions__v4294967295",
        ..HARMLESS
    },
    Case {
        name: "a foreign table in place of the live one",
        action: Sql("DROP TABLE promotions; CREATE TABLE promotions (note TEXT) SELECT 'not yours' AS note"),
        remedy: Some(Sql("DROP TABLE IF EXISTS promotions")),
        foreign: &["promotions"],
        named: "`promotions`",
        ..HARMLESS
    },
    Case {
        name: "a foreign view in place of the live table",
        action: Sql("RENAME TABLE promotions TO moved; CREATE VIEW promotions AS SELECT * FROM moved"),
        remedy: Some(Sql("DROP VIEW IF EXISTS promotions; RENAME TABLE moved TO promotions")),
        foreign: &["promotions", "moved"],
        named: "`promotions`",
        ..HARMLESS
    },
    Case {
        name: "the ledger loses the live version",
        action: Sql("DELETE FROM tableswap_versions WHERE version = 3"),
        ..HARMLESS
    },
    Case {
        name: "the ledger loses a kept version",
        action: Sql("DELETE FROM tableswap_versions WHERE version = 2"),
        ..HARMLESS
    },
    Case {
        name: "the ledger is dropped",
        action: Sql("DROP TABLE tableswap_versions"),
        is_known: false,
        ..HARMLESS
    },
    Case {
        name: "the ledger is emptied",
        action: Sql("TRUNCATE TABLE tableswap_versions"),
        is_known: false,
        ..HARMLESS
    },
    Case { name: "the live table is truncated", action: Sql("TRUNCATE TABLE promotions"), ..HARMLESS },
    Case { name: "the live table is dropped", action: Sql("DROP TABLE promotions"), ..HARMLESS },
    Case {
        name: "half of the live rows are deleted",
        action: Sql("DELETE FROM promotions WHERE CRC32(id) % 2 = 0 AND id <> UNHEX('{key}')"),
        ..HARMLESS
    },
    Case { name: "a kept table is dropped", action: Sql("DROP TABLE promotions__v2"), ..HARMLESS },
    Case {
        name: "a person copies the live table's definition",
        action: Sql("CREATE TABLE promotions__v9 LIKE promotions;
            INSERT INTO promotions__v9 SELECT * FROM promotions"),
        remedy: Some(Sql("DROP TABLE IF EXISTS promotions__v9")),
        foreign: &["promotions__v9"],
        named: "promotions__v9",
        ..HARMLESS
    },
    Case {
        name: "the updater may not drop",
        action: Sql("REVOKE DROP ON {database}.* FROM {writer}"),
        remedy: Some(Sql("GRANT DROP ON {database}.* TO {writer}")),
        ..HARMLESS
    },
    Case {
        name: "the updater may not create",
        action: Sql("REVOKE CREATE ON {database}.* FROM {writer}"),
        remedy: Some(Sql("GRANT CREATE ON {database}.* TO {writer}")),
        ..HARMLESS
    },
    Case {
        name: "the updater may not insert",
        action: Sql("REVOKE INSERT ON {database}.* FROM {writer}"),
        remedy: Some(Sql("GRANT INSERT ON {database}.* TO {writer}")),
        // The ledger is the first table that it would write to.
        named: "tableswap_versions",
        ..HARMLESS
    },
    Case {
        name: "the updater may not alter",
        action: Sql("REVOKE ALTER ON {database}.* FROM {writer}"),
        remedy: Some(Sql("GRANT ALTER ON {database}.* TO {writer}")),
        ..HARMLESS
    },
    Case {
        name: "a person adds a column to the ledger",
        action: Sql("ALTER TABLE tableswap_versions ADD COLUMN remark TEXT NULL"),
        remedy: Some(Sql("ALTER TABLE tableswap_versions DROP COLUMN remark")),
        named: "tableswap_versions",
        ..HARMLESS
    },
    Case {
        name: "the api may not read",
        action: Sql("REVOKE SELECT ON {database}.* FROM {reader}"),
        remedy: Some(Sql("GRANT SELECT ON {database}.* TO {reader}")),
        // Loads work, and no api can see them.
        can_be_read: false,
        ..HARMLESS
    },
];
