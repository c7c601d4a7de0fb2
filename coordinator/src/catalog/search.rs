//! Searches of the index: footprint, time and what of the predicate SQLite can decide exactly; the rest
//! is decided row by row.

use std::collections::HashSet;
use std::fmt::Write;

use graticule_common::predicate::{Comparison, Operand, Predicate};
use graticule_common::scene::{LonLatBox, Scene, SceneQuery, Timestamp};
use rusqlite::OptionalExtension;
use rusqlite::types::Value;

use super::digest::decode;
use super::footprint::parts;
use super::index::{Index, tree_time};
use super::{CatalogError, Listed};

/// Texts and numbers that one statement may be given; SQLite takes some 30 thousand.
const PARAMS_MAX: usize = 10_000;

/// The scenes of a product that a query finds, in order of time, then id, and whether they are all: at
/// most `scenes_max`, those that are found first.
pub(super) fn search(
    index: Index<'_>,
    product: i64,
    query: &SceneQuery,
    area: &LonLatBox,
    scenes_max: usize,
) -> Result<(Vec<Listed>, bool), CatalogError> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let areas = parts([area.west, area.south, area.east, area.north]);
    let mut is_all = true;
    'areas: for area in &areas {
        let (sql, params) = statement(product, query, area);
        let failed = |e| index.failed(e);
        let mut statement = index.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let number = |at: usize| row.get::<_, f64>(at).map_err(failed);
            let key: i64 = row.get(0).map_err(failed)?;
            // The tree has boxes in single precision.
            let edges = [number(3)?, number(4)?, number(5)?, number(6)?];
            if !parts(edges).iter().any(|part| part.intersects(area)) || seen.contains(&key) {
                continue;
            }
            let (id, acquired) = (row.get(1).map_err(failed)?, Timestamp(row.get(2).map_err(failed)?));
            let digest = row.get_ref(7).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
            let scene = decode(&query.product, id, acquired, digest)?;
            if query.predicate.as_ref().is_some_and(|predicate| !predicate.holds(&scene.properties)) {
                continue;
            }
            if found.len() >= scenes_max {
                is_all = false;
                break 'areas;
            }
            if areas.len() > 1 || edges[0] > edges[2] || edges[0] < -180.0 || edges[2] > 180.0 {
                seen.insert(key);
            }
            found.push(Listed { scene, bbox: Some(edges) });
        }
    }
    found.sort_by(|a: &Listed, b| (a.scene.acquired, &a.scene.id).cmp(&(b.scene.acquired, &b.scene.id)));
    Ok((found, is_all))
}

/// Up to `limit` scenes of a product with keys above `after`, by key.
pub(super) fn page(
    index: Index<'_>,
    product: i64,
    product_id: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Scene)>, CatalogError> {
    let failed = |e| index.failed(e);
    let sql =
        "SELECT key, id, acquired, scene FROM items WHERE product = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
    let mut statement = index.connection.prepare_cached(sql).map_err(failed)?;
    let rows = statement.query_map(rusqlite::params![product, after, limit], |row| {
        Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get::<_, Vec<u8>>(3)?))
    });
    let rows: Vec<_> = rows.and_then(Iterator::collect).map_err(failed)?;
    rows.into_iter()
        .map(|(key, id, acquired, bytes)| Ok((key, decode(product_id, id, Timestamp(acquired), &bytes)?)))
        .collect()
}

/// The scene with an id.
pub(super) fn one(
    index: Index<'_>,
    product: i64,
    product_id: &str,
    item: &str,
) -> Result<Option<Scene>, CatalogError> {
    let failed = |e| index.failed(e);
    let sql = "SELECT acquired, scene FROM items WHERE product = ?1 AND id = ?2";
    let mut statement = index.connection.prepare_cached(sql).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?));
    let found = statement.query_row(rusqlite::params![product, item], read).optional().map_err(failed)?;
    found
        .map(|(acquired, bytes)| decode(product_id, item.to_owned(), Timestamp(acquired), &bytes))
        .transpose()
}

/// The statement that finds candidates in one area, with its parameters.
fn statement(product: i64, query: &SceneQuery, area: &LonLatBox) -> (String, Vec<Value>) {
    let columns =
        "items.key, items.id, items.acquired, items.west, items.south, items.east, items.north, items.scene";
    let mut params: Vec<Value> = Vec::new();
    let mut sql;
    let pushed = query.predicate.as_ref().and_then(|predicate| push(predicate, PARAMS_MAX));
    let by_id = query.predicate.as_ref().is_some_and(names_ids) && pushed.is_some();
    if by_id {
        sql = format!("SELECT {columns} FROM items WHERE items.product = ?");
        params.push(product.into());
    } else {
        // CROSS JOIN keeps the order: the tree first.
        sql = format!(
            "SELECT {columns} FROM footprints CROSS JOIN items ON items.key = footprints.part >> 1
             WHERE footprints.west <= ? AND footprints.east >= ?
               AND footprints.south <= ? AND footprints.north >= ?
               AND footprints.p0 <= ? AND footprints.p1 >= ?"
        );
        params.extend([area.east, area.west, area.north, area.south].map(Value::from));
        params.extend([product, product].map(Value::from));
        for (instant, side) in [(query.start, "t1 >="), (query.end, "t0 <=")] {
            if let Some(instant) = instant {
                _ = write!(sql, " AND footprints.{side} ?");
                params.push(tree_time(instant).into());
            }
        }
    }
    for (instant, side) in [(query.start, ">="), (query.end, "<")] {
        if let Some(instant) = instant {
            _ = write!(sql, " AND items.acquired {side} ?");
            params.push(instant.0.into());
        }
    }
    if let Some((condition, more)) = pushed {
        _ = write!(sql, " AND {condition}");
        params.extend(more);
    }
    (sql, params)
}

/// Whether a predicate holds for some named items only.
fn names_ids(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::And(parts) => parts.iter().any(names_ids),
        Predicate::Or(parts) => !parts.is_empty() && parts.iter().all(names_ids),
        Predicate::Compare { op, name, .. } => *op == Comparison::Eq && name == "id",
        Predicate::Null { .. } => false,
    }
}

/// A condition in SQL that holds wherever the predicate does. `None` where there is none worth having.
fn push(predicate: &Predicate, params_max: usize) -> Option<(String, Vec<Value>)> {
    match predicate {
        // Of several that must hold, each that SQL can say narrows the search.
        Predicate::And(parts) => {
            let mut params = Vec::new();
            let mut conditions = Vec::new();
            for part in parts {
                if let Some((condition, more)) = push(part, params_max.saturating_sub(params.len())) {
                    conditions.push(condition);
                    params.extend(more);
                }
            }
            (!conditions.is_empty()).then(|| (format!("({})", conditions.join(" AND ")), params))
        }
        Predicate::Or(parts) => {
            if let Some(ids) = parts.iter().map(only_id).collect::<Option<Vec<_>>>()
                && !ids.is_empty()
                && ids.len() <= params_max
            {
                let marks = vec!["?"; ids.len()].join(", ");
                return Some((format!("items.id IN ({marks})"), ids));
            }
            // SQLite bounds how deep an expression may nest; a long chain of ORs is deep.
            const ALTERNATIVES_MAX: usize = 100;
            if parts.is_empty() || parts.len() > ALTERNATIVES_MAX {
                return None;
            }
            let mut params = Vec::new();
            let mut conditions = Vec::new();
            for part in parts {
                let (condition, more) = push(part, params_max.saturating_sub(params.len()))?;
                conditions.push(condition);
                params.extend(more);
            }
            Some((format!("({})", conditions.join(" OR ")), params))
        }
        Predicate::Null { name, is_null } => {
            let column = column(name)?;
            Some((format!("{column} IS {}NULL", if *is_null { "" } else { "NOT " }), Vec::new()))
        }
        Predicate::Compare { op, name, value } => {
            let column = column(name)?;
            let value: Value = match (name.as_str(), value) {
                ("acquired", Operand::Text(text)) => Timestamp::parse(text)?.0.into(),
                ("cloud_fraction", number @ Operand::Number(_)) => number.as_f64()?.into(),
                ("id" | "satellite_id", Operand::Text(text)) => text.clone().into(),
                _ => return None,
            };
            let sign = match op {
                Comparison::Eq => "=",
                Comparison::Ne => return Some((format!("{column} IS NOT ?"), vec![value])),
                Comparison::Gt => ">",
                Comparison::Gte => ">=",
                Comparison::Lt => "<",
                Comparison::Lte => "<=",
                Comparison::Prefix | Comparison::Like | Comparison::ILike => return None,
            };
            (params_max > 0).then(|| (format!("{column} {sign} ?"), vec![value]))
        }
    }
}

fn only_id(predicate: &Predicate) -> Option<Value> {
    match predicate {
        Predicate::Compare { op: Comparison::Eq, name, value: Operand::Text(text) } if name == "id" => {
            Some(text.clone().into())
        }
        _ => None,
    }
}

/// The column that holds exactly what a property says.
fn column(property: &str) -> Option<&'static str> {
    match property {
        "id" => Some("items.id"),
        "acquired" => Some("items.acquired"),
        "cloud_fraction" => Some("items.cloud_fraction"),
        "satellite_id" => Some("items.satellite_id"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_down() {
        let push =
            |text: &str| push(&Predicate::parse(text).unwrap(), 4).map(|(sql, params)| (sql, params.len()));
        let pushed = |sql: &str, params| Some((sql.to_owned(), params));
        assert_eq!(
            push(
                r#"[{"op": "lt", "name": "cloud_fraction", "val": 0.2}, {"op": "eq", "name": "gsd", "val": 30}]"#
            ),
            pushed("(items.cloud_fraction < ?)", 1)
        );
        assert_eq!(
            push(r#"{"op": "ne", "name": "satellite_id", "val": "a"}"#),
            pushed("items.satellite_id IS NOT ?", 1)
        );
        assert_eq!(
            push(
                r#"{"or": [{"op": "eq", "name": "id", "val": "a"}, {"op": "eq", "name": "id", "val": "b"}]}"#
            ),
            pushed("items.id IN (?, ?)", 2)
        );
        assert_eq!(push(r#"{"op": "isnull", "name": "id"}"#), pushed("items.id IS NULL", 0));
        // One alternative that SQL cannot say makes the whole unsayable; a number is no text.
        for text in [
            r#"{"or": [{"op": "eq", "name": "id", "val": "a"}, {"op": "eq", "name": "gsd", "val": 1}]}"#,
            r#"{"op": "eq", "name": "id", "val": 1}"#,
            r#"{"op": "like", "name": "id", "val": "a%"}"#,
            r#"{"or": []}"#,
            "[]",
        ] {
            assert_eq!(push(text), None, "{text}");
        }
    }
}
