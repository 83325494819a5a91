//! Requests and responses that Azure IoT Hub documents; everything else is unsupported (a stray).

use std::collections::BTreeMap;

use doorfleet_testing::Received;
use jiff::Timestamp;
use serde_json::Value;

/// Longest query, and longest condition of a job.
const MAX_QUERY: usize = 8_192;

/// Most devices of one bulk request.
const MAX_BULK: usize = 100;

/// Headers allowed in every request; `x-audit-reason` is for door-hub, and Azure ignores it.
const HEADERS: Names = "x-audit-reason host authorization accept content-type content-length user-agent \
    request-id x-ms-client-request-id";

const PAGED: Names = "x-ms-max-item-count x-ms-continuation";

/// Functions and keywords allowed before a parenthesis.
const BEFORE_PARENTHESIS: Names =
    "IS_DEFINED STARTSWITH ENDSWITH COUNT AVG SUM MIN MAX AND OR NOT IN NIN WHERE";

const IMPORT_MODES: Names = "create update updateIfMatchETag delete deleteIfMatchETag createOrUpdate \
    createOrUpdateIfMatchETag updateTwin updateTwinIfMatchETag";

/// Names, separated by spaces. Members of bodies are paths; below `.*` everything is allowed.
type Names = &'static str;

const NOTHING: Names = "";

const DEVICE: Names = "deviceId generationId etag connectionState status statusReason \
    connectionStateUpdatedTime statusUpdatedTime lastActivityTime cloudToDeviceMessageCount \
    authentication.type authentication.symmetricKey.primaryKey \
    authentication.symmetricKey.secondaryKey authentication.x509Thumbprint.primaryThumbprint \
    authentication.x509Thumbprint.secondaryThumbprint capabilities.iotEdge deviceScope \
    parentScopes";

const BULK: Names = "id moduleId eTag importMode status statusReason authentication.type \
    authentication.symmetricKey.primaryKey authentication.symmetricKey.secondaryKey \
    authentication.x509Thumbprint.primaryThumbprint \
    authentication.x509Thumbprint.secondaryThumbprint twinETag tags.* properties.desired.* \
    properties.reported.* capabilities.iotEdge deviceScope parentScopes";

const TWIN_PATCH: Names = "tags.* properties.desired.*";

const TWIN: Names = "deviceId moduleId etag deviceEtag status statusReason statusUpdateTime connectionState \
    lastActivityTime cloudToDeviceMessageCount authenticationType x509Thumbprint.* modelId \
    version tags.* properties.* capabilities.* deviceScope parentScopes";

const CALL: Names = "methodName responseTimeoutInSeconds connectTimeoutInSeconds payload.*";

const JOB_REQUEST: Names = "jobId type cloudToDeviceMethod.methodName cloudToDeviceMethod.responseTimeoutInSeconds \
    cloudToDeviceMethod.connectTimeoutInSeconds cloudToDeviceMethod.payload.* \
    updateTwin.etag updateTwin.tags.* updateTwin.properties.desired.* queryCondition \
    startTime maxExecutionTimeInSeconds";

const JOB: Names = "jobId queryCondition createdTime startTime endTime maxExecutionTimeInSeconds type status \
    cloudToDeviceMethod.* updateTwin.* failureReason statusMessage deviceJobStatistics.*";

const DEVICE_JOB: Names = "deviceId jobId jobType status startTimeUtc endTimeUtc createdDateTimeUtc \
    lastUpdatedDateTimeUtc outcome.* error.code error.description";

/// A resource: method, path, and the allowed parts of request and response.
struct Resource {
    method: &'static str,
    path: &'static str,
    query: Names,
    headers: Names,
    body: Names,
    answer: Names,
}

const fn resource(
    method: &'static str,
    path: &'static str,
    headers: Names,
    body: Names,
    answer: Names,
) -> Resource {
    Resource {
        method,
        path,
        query: NOTHING,
        headers,
        body,
        answer,
    }
}

const IF_MATCH: Names = "if-match";

/// The service API of IoT Hub. `{}` matches any one segment; the first match counts.
const RESOURCES: &[Resource] = &[
    resource("PUT", "/devices/{}", IF_MATCH, DEVICE, DEVICE),
    resource("GET", "/devices/{}", NOTHING, NOTHING, DEVICE),
    resource("DELETE", "/devices/{}", IF_MATCH, NOTHING, NOTHING),
    Resource {
        query: "top",
        ..resource("GET", "/devices", NOTHING, NOTHING, DEVICE)
    },
    resource(
        "POST",
        "/devices",
        NOTHING,
        BULK,
        "isSuccessful errors warnings",
    ),
    resource(
        "GET",
        "/statistics/devices",
        NOTHING,
        NOTHING,
        "totalDeviceCount enabledDeviceCount disabledDeviceCount",
    ),
    resource(
        "GET",
        "/statistics/service",
        NOTHING,
        NOTHING,
        "connectedDeviceCount",
    ),
    resource("GET", "/twins/{}", NOTHING, NOTHING, TWIN),
    resource("PATCH", "/twins/{}", IF_MATCH, TWIN_PATCH, TWIN),
    resource("PUT", "/twins/{}", IF_MATCH, TWIN_PATCH, TWIN),
    resource(
        "POST",
        "/twins/{}/methods",
        NOTHING,
        CALL,
        "status payload.*",
    ),
    // The response says what its rows are.
    resource("POST", "/devices/query", PAGED, "query", NOTHING),
    Resource {
        query: "jobType jobStatus pageSize continuationToken",
        ..resource("GET", "/jobs/v2/query", PAGED, NOTHING, JOB)
    },
    resource(
        "PUT",
        "/jobs/v2/{}",
        NOTHING,
        JOB_REQUEST,
        "jobId type status",
    ),
    resource("GET", "/jobs/v2/{}", NOTHING, NOTHING, JOB),
    resource("POST", "/jobs/v2/{}/cancel", NOTHING, NOTHING, JOB),
];

/// A complete request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query, as sent.
    pub(super) target: String,
    /// Lower-case names.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl From<Received> for Request {
    fn from(received: Received) -> Self {
        let (method, target) = received.line.split_once(' ').unwrap();
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: received.headers,
            body: received.body.into_bytes(),
        }
    }
}

/// An error of Azure: status, name and text.
pub(super) type Refusal = (u16, &'static str, String);

/// A request that Azure supports.
pub(super) struct Served {
    /// It counts against the query limit.
    pub(super) is_query: bool,
    /// It counts against the job limit.
    pub(super) is_new_job: bool,
    answer: Names,
}

impl Request {
    /// Method and segments of the path.
    pub(super) fn route(&self) -> (&str, Vec<&str>) {
        let (path, _) = self.parts();
        (&self.method, path.trim_matches('/').split('/').collect())
    }

    fn parts(&self) -> (&str, Vec<(&str, &str)>) {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        (path, pairs.collect())
    }

    /// Checks the request; an error means that Azure does not support it.
    pub(super) fn judge(&self) -> Result<Served, Refusal> {
        let (path, query) = self.parts();
        let fits = |resource: &&Resource| {
            resource.method == self.method && is_path(resource.path, path.trim_end_matches('/'))
        };
        // `/devices/query` is not a device, and `/jobs/v2/query` is not a job.
        let literal = RESOURCES.iter().filter(|other| !other.path.contains("{}"));
        let resource = literal
            .filter(fits)
            .chain(RESOURCES.iter().filter(fits))
            .next()
            .ok_or_else(|| (404, "GenericNotFound", format!("no resource {path}")))?;
        if !query.iter().any(|(name, _)| *name == "api-version") {
            return Err(bad("api-version is missing".to_owned()));
        }
        let mut names = query.iter().map(|(name, _)| *name);
        if let Some(stray) = names.find(|name| *name != "api-version" && !has(resource.query, name))
        {
            return Err(bad(format!("query parameter {stray} of {path}")));
        }
        let mut headers = self.headers.keys().map(String::as_str);
        if let Some(stray) =
            headers.find(|name| !has(HEADERS, name) && !has(resource.headers, name))
        {
            return Err(bad(format!("header {stray} of {path}")));
        }
        if self.method == "POST" && !self.headers.contains_key("content-length") {
            return Err((411, "LengthRequired", format!("length of {path}")));
        }
        if self.method == "DELETE" && !self.headers.contains_key("if-match") {
            return Err((412, "PreconditionFailed", "Etag missing".to_owned()));
        }
        if resource.method == "PUT" && resource.path == "/jobs/v2/{}" {
            judge_job_id(path.rsplit('/').next().unwrap_or_default())?;
        }
        self.judge_body(resource)?;
        Ok(Served {
            is_query: resource.path == "/devices/query",
            is_new_job: resource.method == "PUT" && resource.path == "/jobs/v2/{}",
            answer: resource.answer,
        })
    }

    fn judge_body(&self, resource: &Resource) -> Result<(), Refusal> {
        if self.body.is_empty() {
            return match resource.body.is_empty() {
                true => Ok(()),
                false => Err(bad(format!(
                    "{} {} without a body",
                    self.method, resource.path
                ))),
            };
        }
        let body: Value = serde_json::from_slice(&self.body)
            .map_err(|error| bad(format!("the body is not JSON: {error}")))?;
        let items: Vec<&Value> = match (&body, resource.path) {
            (Value::Array(items), "/devices") => items.iter().collect(),
            _ => vec![&body],
        };
        for item in &items {
            if let Some(stray) = strays(item, "", resource.body).first() {
                return Err(bad(format!("member {stray} of {}", resource.path)));
            }
        }
        match resource.path {
            "/devices" if items.len() > MAX_BULK => {
                Err((413, "TooManyDevices", format!("{} devices", items.len())))
            }
            "/devices" => items.iter().try_for_each(|item| judge_import(item)),
            "/devices/query" => judge_query(text(&body, "query")),
            "/jobs/v2/{}" => judge_job(&body),
            "/twins/{}/methods" => judge_call(&body),
            _ => Ok(()),
        }
    }
}

impl Served {
    /// Removes the members that Azure's responses do not have.
    pub(super) fn strip(&self, item_type: Option<&str>, body: &[u8]) -> Vec<u8> {
        let members = match (self.is_query, item_type) {
            (true, Some("Twin")) => TWIN,
            (true, Some("DeviceJob")) => DEVICE_JOB,
            (true, _) => return body.to_vec(),
            (false, _) => self.answer,
        };
        let Ok(mut answer) = serde_json::from_slice::<Value>(body) else {
            return body.to_vec();
        };
        match &mut answer {
            Value::Array(items) => items.iter_mut().for_each(|item| keep(item, members)),
            item => keep(item, members),
        }
        answer.to_string().into_bytes()
    }
}

fn bad(what: String) -> Refusal {
    (400, "ArgumentInvalid", what)
}

fn has(names: Names, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

fn is_path(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("{}"), Some(segment)) if !segment.is_empty() => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Paths of members that are not allowed.
fn strays(value: &Value, at: &str, allowed: Names) -> Vec<String> {
    let Some(object) = value.as_object() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, inner) in object {
        let path = match at {
            "" => key.clone(),
            at => format!("{at}.{key}"),
        };
        let anything = format!("{path}.*");
        let below = format!("{path}.");
        if has(allowed, &path) || has(allowed, &anything) {
            continue;
        }
        match allowed.split(' ').any(|member| member.starts_with(&below)) {
            true => found.extend(strays(inner, &path, allowed)),
            false => found.push(path),
        }
    }
    found
}

fn keep(item: &mut Value, members: Names) {
    if let Value::Object(object) = item {
        let known = |key: &str| {
            let mut roots = members.split(' ').map(|member| member.split('.').next());
            roots.any(|root| root == Some(key))
        };
        object.retain(|key, _| known(key));
    }
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn judge_import(item: &Value) -> Result<(), Refusal> {
    match text(item, "importMode") {
        mode if has(IMPORT_MODES, mode) => Ok(()),
        mode => Err(bad(format!("importMode {mode:?}"))),
    }
}

fn judge_call(call: &Value) -> Result<(), Refusal> {
    for (name, least) in [
        ("responseTimeoutInSeconds", 5),
        ("connectTimeoutInSeconds", 0),
    ] {
        let within = |value: &Value| value.as_u64().is_some_and(|s| (least..=300).contains(&s));
        if !call.get(name).is_none_or(within) {
            return Err(bad(format!("{name} must be within [{least}; 300].")));
        }
    }
    let seconds = |name, absent| call.get(name).and_then(Value::as_u64).unwrap_or(absent);
    if seconds("connectTimeoutInSeconds", 0) > seconds("responseTimeoutInSeconds", 30) {
        return Err(bad(
            "the device connection timeout is longer than the overall call timeout".to_owned(),
        ));
    }
    match text(call, "methodName").len() {
        1..=100 => Ok(()),
        length => Err(bad(format!("methodName of {length} characters"))),
    }
}

fn judge_job_id(id: &str) -> Result<(), Refusal> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-'".contains(c);
    match id.len() <= 64 && id.chars().all(is_allowed) {
        true => Ok(()),
        false => Err(bad(format!("job id {id}"))),
    }
}

fn judge_job(job: &Value) -> Result<(), Refusal> {
    let condition = text(job, "queryCondition");
    if condition.len() > MAX_QUERY {
        let text = "The etag in the request does not match the etag of the existing resource";
        return Err((412, "PreconditionFailed", text.to_owned()));
    }
    if condition.is_empty() {
        return Err(bad("queryCondition is missing".to_owned()));
    }
    if condition != "*" {
        judge_words(condition)?;
    }
    let start = job.get("startTime").filter(|start| !start.is_null());
    if !start.is_none_or(is_soon) {
        return Err(bad(format!("startTime {start:?}")));
    }
    match (
        text(job, "type"),
        job.get("cloudToDeviceMethod"),
        job.get("updateTwin"),
    ) {
        ("scheduleDeviceMethod", Some(call), None | Some(Value::Null)) => judge_call(call),
        ("scheduleUpdateTwin", None | Some(Value::Null), Some(patch)) => {
            match text(patch, "etag") {
                "*" => Ok(()),
                etag => Err((
                    412,
                    "PreconditionFailed",
                    format!("updateTwin.etag {etag:?}"),
                )),
            }
        }
        (other, ..) => Err((400, "GenericBadRequest", format!("type {other:?}"))),
    }
}

/// Checks a time: at most 168 hours ahead.
fn is_soon(value: &Value) -> bool {
    let start = value
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let latest = Timestamp::now() + jiff::SignedDuration::from_hours(168);
    start.is_some_and(|start| start <= latest)
}

fn judge_query(query: &str) -> Result<(), Refusal> {
    if query.len() > MAX_QUERY {
        return Err(bad(format!("a query of {} characters", query.len())));
    }
    let upper = query.to_ascii_uppercase();
    if upper.contains("FROM DEVICES.JOBS") && !upper.starts_with("SELECT * ") {
        return Err(bad("devices.jobs has no projections".to_owned()));
    }
    judge_words(query)
}

/// Checks that a query uses only functions of Azure's query language.
fn judge_words(text: &str) -> Result<(), Refusal> {
    let bare = without_literals(text);
    let upper = bare.to_ascii_uppercase();
    if upper.contains("ORDER BY") || upper.contains("LIKE ") {
        return Err(bad(format!("the query is invalid: {text}")));
    }
    for (at, _) in upper.match_indices('(') {
        let before = upper[..at].trim_end();
        let word = before
            .rsplit(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .next()
            .unwrap_or_default();
        if !word.is_empty() && !has(BEFORE_PARENTHESIS, word) {
            return Err(bad(format!("function {word} in: {text}")));
        }
    }
    let mut words = upper.split(|c: char| !(c.is_ascii_alphanumeric() || "_.[]".contains(c)));
    if words.any(|word| word.contains('.') && word.split('.').any(|name| name == "GROUP")) {
        return Err(bad(format!(
            "the keyword `group` as a name, without [[ ]], in: {text}"
        )));
    }
    for (at, _) in upper.match_indices('[') {
        let before = upper[..at].trim_end();
        let is_name = upper[at..].starts_with("[[") || before.ends_with('[');
        if !is_name && !before.ends_with("IN") {
            return Err(bad(format!("a bracket that follows no IN in: {text}")));
        }
    }
    Ok(())
}

fn without_literals(text: &str) -> String {
    let mut bare = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match quote {
            Some(_) if character == '\\' => drop(characters.next()),
            Some(end) if character == end => quote = None,
            Some(_) => {}
            None if character == '\'' || character == '"' => quote = Some(character),
            None => bare.push(character),
        }
    }
    bare
}

/// Method, target without `api-version`, and body; `TWIN_JOB` stands for a job that Azure accepts.
const REFUSED: &[&str] = &[
    "GET /healthz",
    "GET /events",
    "GET /audit",
    "POST /jobs/v2/a/cancel?stop=true",
    r#"PATCH /twins/a {"tags":{},"note":1}"#,
    r#"PATCH /twins/a {"properties":{"other":{}}}"#,
    r#"POST /devices/query {"query":"SELECT * FROM devices ORDER BY a"}"#,
    r#"POST /devices/query {"query":"SELECT * FROM devices WHERE CONTAINS(a, 'b')"}"#,
    r#"POST /devices/query {"query":"SELECT deviceId FROM devices.jobs"}"#,
    r#"POST /twins/a/methods {"methodName":"m","responseTimeoutInSeconds":301}"#,
    r#"POST /twins/a/methods {"methodName":"m","connectTimeoutInSeconds":31}"#,
    r#"PUT /jobs/v2/a {"type":"scheduleDeviceMethod","queryCondition":"*","cloudToDeviceMethod":
        {"methodName":"m","connectTimeoutInSeconds":120,"responseTimeoutInSeconds":30}}"#,
    "DELETE /devices/a",
    r#"POST /devices/query {"query":"SELECT * FROM devices WHERE tags.group = 'x'"}"#,
    r#"PUT /jobs/v2/a {TWIN_JOB,"queryCondition":"tags.access.Group = 'x'"}"#,
    r#"PUT /jobs/v2/lockDoor-1 {TWIN_JOB,"queryCondition":"*"}"#,
    r#"PUT /jobs/v2/a {TWIN_JOB,"queryCondition":"*","startTime":"2999-01-01T00:00:00Z"}"#,
    r#"PUT /jobs/v2/a
        {"type":"scheduleUpdateTwin","updateTwin":{"etag":"AA=="},"queryCondition":"*"}"#,
];

const ACCEPTED: &[&str] = &[
    "GET /twins/a/",
    "GET /jobs/v2/query?jobStatus=running",
    r#"PATCH /twins/a {"tags":{"a":{"b":1}},"properties":{"desired":{"c":null}}}"#,
    r#"POST /devices/query
        {"query":"SELECT * FROM devices WHERE (a IN ['CONTAINS(', 'b']) AND IS_DEFINED(c)"}"#,
    r#"POST /devices/query {"query":"SELECT COUNT() AS n FROM devices WHERE tags.[[group]]
        = 'group.x' GROUP BY tags.[[group]].b"}"#,
    r#"POST /twins/a/methods {"methodName":"m","connectTimeoutInSeconds":30}"#,
    r#"PUT /jobs/v2/a {TWIN_JOB,"queryCondition":"*"}"#,
];

#[test]
fn requests_that_only_door_hub_accepts_are_refused() {
    const TWIN_JOB: &str =
        r#""type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"a":1}}"#;
    let judged = |row: &str, version: &str| {
        let row = row.split_whitespace().collect::<Vec<_>>().join(" ");
        let row = row.replace("TWIN_JOB", TWIN_JOB);
        let mut parts = row.splitn(3, ' ').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let (method, target, body) = (part(), part(), part());
        let and = if target.contains('?') { "&" } else { "?" };
        let length = ("content-length".to_owned(), body.len().to_string());
        let request = Request {
            method,
            target: target + and + version,
            headers: [length].into(),
            body: body.into_bytes(),
        };
        let judged = request.judge().map(drop);
        judged.map_err(|(status, _, text)| (status, text))
    };
    for row in REFUSED {
        assert!(judged(row, "api-version=1").is_err(), "{row}");
    }
    for row in ACCEPTED {
        assert_eq!(judged(row, "api-version=1"), Ok(()), "{row}");
    }
    assert!(judged("GET /twins/a", "").is_err());
}
