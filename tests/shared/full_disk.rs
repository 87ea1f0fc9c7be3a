//! A disk that is full at a chosen moment, as SQLite sees it. Included by path.

/// Lets the file grow by no more than this many pages; `None` lifts the limit.
pub(crate) fn limit_pages(connection: &rusqlite::Connection, more: Option<i64>) {
    let pages: i64 = connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    let limit = more.map_or(1 << 30, |more| pages + more);
    connection
        .pragma_update_and_check(None, "max_page_count", limit, |_| Ok(()))
        .unwrap();
}
