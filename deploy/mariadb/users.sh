# Makes the two users, with no more rights than they need; the image runs this at its first start.
# shellcheck shell=bash
mariadb --user=root --password="${MARIADB_ROOT_PASSWORD:-}" --socket=/run/mysqld/mysqld.sock <<SQL
CREATE USER updater IDENTIFIED BY '$UPDATER_PASSWORD';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP ON tableswap.* TO updater;
CREATE USER api IDENTIFIED BY '$API_PASSWORD';
GRANT SELECT ON tableswap.* TO api;
SQL
