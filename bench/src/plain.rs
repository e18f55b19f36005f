//! The contender `mariadb-plain`: look-ups as one writes them first. Each request takes a connection from a pool and
//! asks for its key with a prepared statement.

use actix_web::error::ErrorServiceUnavailable;
use actix_web::{HttpResponse, Result, web};
use mysql_async::prelude::Queryable;
use mysql_async::{Opts, OptsBuilder, Pool, PoolOpts, Value};
use uuid::Uuid;

use crate::bare;

/// Serves until it is ended. Web server and pool are as they are where nothing is set, but for what the api sets, too;
/// so a connection that comes back to the pool keeps its prepared statement.
pub(crate) fn run(port: u16, database: &str) -> anyhow::Result<()> {
    let pool = PoolOpts::new().with_reset_connection(false);
    let options = OptsBuilder::from_opts(Opts::from_url(database)?).prefer_socket(false).pool_opts(pool);
    let pool = web::Data::new(Pool::new(options));
    Ok(bare::serve(port, move |routes| {
        routes.app_data(pool.clone()).route("/promotions/{id}", web::get().to(answer));
    })?)
}

async fn answer(id: web::Path<String>, pool: web::Data<Pool>) -> Result<HttpResponse> {
    let Ok(id) = Uuid::parse_str(&id) else { return Ok(HttpResponse::NotFound().finish()) };
    let row = look_up(&pool, id).await.map_err(ErrorServiceUnavailable)?;
    let Some((price, Value::Date(year, month, day, hour, minute, second, _))) = row else {
        return Ok(HttpResponse::NotFound().finish());
    };
    let price = price.trim_end_matches('0').trim_end_matches('.');
    let row = format!(
        r#"{{"id":"{id}","price":{price},"expiration_date":"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"}}"#
    );
    Ok(HttpResponse::Ok().content_type("application/json").body(row))
}

async fn look_up(pool: &Pool, id: Uuid) -> mysql_async::Result<Option<(String, Value)>> {
    let mut connection = pool.get_conn().await?;
    connection
        .exec_first("SELECT price, expiration_date FROM promotions WHERE id = ?", (id.as_bytes(),))
        .await
}
