#!/bin/sh
# Installs or updates all that is in this folder, in Elasticsearch or OpenSearch.
#
#   SIEM_URL              https://es.example:9200 (required)
#   DASHBOARDS_URL        Kibana or OpenSearch Dashboards, with the space's path if there is one
#   SIEM_API_KEY          an API key (Elasticsearch), or
#   SIEM_USER, SIEM_PASSWORD
#   SIEM_CA_FILE          the authority that signed the certificates
#
# Each request replaces what an earlier run has put there. Rules and monitors come disabled and
# stay as they are once they exist, unless REPLACE=1. The status is 1 if anything failed.
set -eu
cd "$(dirname "$0")"
: "${SIEM_URL:?set SIEM_URL, such as https://es.example:9200}"
name=logs-cloudflare_access
answer=$(mktemp)
body=$(mktemp)
trap 'rm -f "$answer" "$body"' EXIT
failed=0

# What curl may not have among its arguments, which other users of the machine can read.
credentials() {
    if [ -n "${SIEM_API_KEY:-}" ]; then
        printf 'header = "Authorization: ApiKey %s"\n' "$SIEM_API_KEY"
    elif [ -n "${SIEM_USER:-}" ]; then
        quoted=$(printf %s "$SIEM_USER:${SIEM_PASSWORD:?set SIEM_PASSWORD}" | sed 's/["\\]/\\&/g')
        printf 'user = "%s"\n' "$quoted"
    fi
}

# request METHOD URL [ARGUMENTS OF CURL]: sets $status and fills $answer.
request() {
    method=$1 url=$2
    shift 2
    status=$(credentials | curl --config - --silent --show-error --max-time 120 \
        ${SIEM_CA_FILE:+--cacert "$SIEM_CA_FILE"} --request "$method" --output "$answer" \
        --write-out '%{http_code}' "$@" "$url") || {
        echo "$url: no answer. Check the address, the certificate and the network." >&2
        exit 1
    }
}

# json METHOD PATH FILE: never from standard input, where curl reads the credentials.
json() {
    request "$1" "$SIEM_URL$2" --header 'Content-Type: application/json' --data-binary "@$3"
}

report() {
    case $status in
    2*) echo "installed: $1" ;;
    *)
        echo "failed: $1: HTTP $status: $(head -c 400 "$answer")" >&2
        failed=1
        ;;
    esac
}

# What a cluster may lack: a plugin, a processor, security.
optional() {
    if [ "$status" = 404 ] || grep -q -e 'no handler found' -e 'No processor type exists' \
        -e 'Incorrect HTTP method' -e 'no_such_handler' "$answer"; then
        echo "skipped: $1: this cluster does not have $2"
    else
        report "$1"
    fi
}

value() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$answer" | head -n 1; }

ism() {
    path=/_plugins/_ism/policies/$name
    json PUT "$path" ism-policy.json
    if [ "$status" = 409 ]; then
        request GET "$SIEM_URL$path"
        json PUT "$path?if_seq_no=$(value _seq_no)&if_primary_term=$(value _primary_term)" ism-policy.json
    fi
    optional 'ISM policy' 'index state management'
}

monitors() {
    path=/_plugins/_alerting/monitors
    while IFS= read -r monitor; do
        title=$(printf %s "$monitor" | sed 's/.*"name": "\(Cloudflare Access: [^"]*\)".*/\1/')
        printf '{"query":{"term":{"monitor.name.keyword":"%s"}}}' "$title" >"$body"
        json GET "$path/_search" "$body"
        known=$(value _id)
        printf %s "$monitor" >"$body"
        if [ -z "$known" ]; then
            json POST "$path" "$body"
        elif [ "${REPLACE:-0}" = 1 ]; then
            json PUT "$path/$known" "$body"
        else
            echo "kept: monitor $title (REPLACE=1 replaces it)"
            continue
        fi
        optional "monitor $title" alerting
    done <monitors.ndjson
}

# import WHAT PATH FILE HEADER
import() {
    request POST "$DASHBOARDS_URL$2" --header "$4" --form "file=@$3"
    grep -q '"success":true' "$answer" || [ "$status" -ge 300 ] || status="$status, and not all"
    report "$1"
}

elasticsearch() {
    cd elasticsearch
    json PUT "/_ilm/policy/$name" ilm-policy.json
    optional 'ILM policy' 'index lifecycle management'
    for role in sink analyst; do
        json PUT "/_security/role/cloudflare_access_$role" "$role-role.json"
        optional "role cloudflare_access_$role" security
    done
}

opensearch() {
    cd opensearch
    ism
    for role in sink analyst; do
        json PUT "/_plugins/_security/api/roles/cloudflare_access_$role" "$role-role.json"
        optional "role cloudflare_access_$role" security
    done
}

pipelines() {
    json PUT "/_ingest/pipeline/$name-geo" geo-pipeline.json
    optional 'geo pipeline' 'the geoip processor'
    json PUT "/_ingest/pipeline/$name" ingest-pipeline.json
    report 'ingest pipeline'
    json PUT "/_index_template/$name" index-template.json
    report 'index template'
}

request GET "$SIEM_URL/"
if grep -q '"distribution"[ :]*"opensearch"' "$answer"; then
    opensearch
    pipelines
    monitors
    header='osd-xsrf: true' import=/api/saved_objects/_import?overwrite=true
elif grep -q '"cluster_name"' "$answer"; then
    elasticsearch
    pipelines
    header='kbn-xsrf: true' import=/api/saved_objects/_import?overwrite=true
else
    echo "$SIEM_URL: HTTP $status, and neither Elasticsearch nor OpenSearch: $(head -c 400 "$answer")" >&2
    exit 1
fi
cd ..

if [ -z "${DASHBOARDS_URL:-}" ]; then
    echo 'skipped: dashboards and rules: DASHBOARDS_URL is not set'
else
    import dashboards "$import" dashboards.ndjson "$header"
    if [ "$header" = 'kbn-xsrf: true' ]; then
        overwrite=$([ "${REPLACE:-0}" = 1 ] && echo true || echo false)
        import rules "/api/detection_engine/rules/_import?overwrite=$overwrite" elasticsearch/rules.ndjson "$header"
    fi
fi
exit "$failed"
