#!/usr/bin/env bash
# Checks the configuration, the rules and what the alerts do, and that each alert has what an alert must have: a case in
# which it fires, one in which it does not, and a section in the runbook.
#
#   PROMTOOL=promtool deploy/prometheus/check.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

promtool=${PROMTOOL:-promtool}
runbook=../README.md
failed=0

complain() {
  echo "$1" >&2
  failed=1
}

# The paths of rules in it are those of the container, so the rules are checked by themselves.
"$promtool" check config --syntax-only prometheus.yml
"$promtool" check rules rules/*.yml
"$promtool" test rules tests/*.yml

# The alerts of all cases with what is expected of them: `TableswapNoApi fires`, `TableswapNoApi quiet`.
expected=$(awk '
  $1 == "alertname:" { alert = $2 }
  $1 == "exp_alerts:" { print alert, ($2 == "[]" ? "quiet" : "fires") }
' tests/*.yml | sort -u)

while read -r alert; do
  for what in fires quiet; do
    grep -qx "$alert $what" <<< "$expected" || complain "$alert: no case says \`$what\`"
  done
  grep -qx "### $alert" "$runbook" || complain "$alert: no section in deploy/README.md"
  grep -qi "runbook_url: deploy/README.md#$alert\$" rules/alerts.yml || complain "$alert: no link to its section"
done < <(awk '$2 == "alert:" { print $3 }' rules/alerts.yml)

# A case for an alert that is not there any more says nothing.
while read -r alert; do
  grep -q "alert: $alert\$" rules/alerts.yml || complain "$alert: has cases, but there is no such alert"
done < <(cut -d ' ' -f 1 <<< "$expected" | uniq)

exit "$failed"
