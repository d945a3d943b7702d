"""The hazards: what makes an orchestrator take another way when it is replayed. The one table of them.

An orchestrator is run again from its start whenever something happens to it, so each run has to ask for the
same things in the same order. Whatever tells one run from another is a hazard, and has a code here. The page
``docs/lint.md`` is rendered from this table.

Names in `calls` and `reads` are dotted. ``*`` stands for one part or for some of its letters, ``**`` for any
number of parts; ``x.Path.exists`` is also the method of what ``x.Path()`` returns. What a pure call returns
is pure, and so are its methods. The first hazard that has an exact name for a call takes it, then the first
with a pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Hazard:
    """One kind of mistake.

    Attributes
    ----------
    code, name : str
        How it is called, in findings and in ignores: ``"DT101"``, ``"wall-clock"``.
    title : str
        What it is, in a few words.
    severity : str
        ``"error"``, ``"warning"`` or ``"note"``.
    why : str
        What happens in production.
    instead : str
        The durable way to do it.
    wrong, right : str
        The body of an orchestrator that does it, and of one that does not.
    more : str
        What else there is to know, for the page.
    calls, reads : tuple[str, ...]
        Which calls, and which attributes that are merely read, are such a hazard.
    pure : tuple[str, ...]
        What the patterns of `calls` match though there is nothing wrong with it.
    audits : tuple[str, ...]
        The events of :func:`sys.addaudithook` by which the guard notices it, from whatever it is called.
    """

    code: str
    name: str
    title: str
    severity: Severity
    why: str
    instead: str
    wrong: str
    right: str
    more: str = ""
    calls: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    pure: tuple[str, ...] = ()
    audits: tuple[str, ...] = ()


def _each(module: str, names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in names.split())


def _all_of(module: str, names: str) -> tuple[str, ...]:
    """These, their methods, and those of what they return."""
    return tuple(f"{module}.{name}.**" for name in names.split())


# What connects in packages of which the rest is plain values: clients and sessions, what makes them, and
# what they give, wherever in the package it is.
_CONNECTS = {
    "socket": "**",
    "socketserver": "*Server",
    "ssl": (
        "create_default_context _create_*_context create_connection wrap_socket get_server_certificate "
        "get_default_verify_paths enum_certificates enum_crls SSLContext SSLSocket SSLObject"
    ),
    "http.client": "HTTPConnection HTTPSConnection HTTPResponse",
    "urllib.request": "urlopen urlretrieve urlcleanup getproxies* proxy_bypass* *opener OpenerDirector",
    "xmlrpc.client": "ServerProxy Server *Transport",
    "ftplib": "FTP FTP_TLS",
    "smtplib": "SMTP SMTP_SSL LMTP",
    "imaplib": "IMAP4*",
    "poplib": "POP3*",
    "telnetlib": "Telnet",
    "nntplib": "NNTP NNTP_SSL",
    "urllib3": "request *Manager *ConnectionPool *Connection *_from_url create_connection",
    "aiohttp": "request *Session *Connector *Resolver ClientResponse ClientWebSocketResponse run_app *Runner",
    "grpc": "*_channel channel_ready_future Channel *MultiCallable server Server protos* services",
    "websocket": "WebSocket WebSocketApp create_connection",
    "websockets": "connect *_connect serve *_serve broadcast *Connection WebSocketClientProtocol *Server",
    "pycurl": "Curl*",
    "paramiko": (
        "*Client SFTPFile *Transport Channel* Agent ProxyCommand SSHConfig.from_path "
        "*Key.from_private_key_file *Key.generate HostKeys.load"
    ),
    "pysftp": "Connection",
    "sqlite3": "connect Connection Cursor Blob",
    "psycopg": "connect *Connection *Cursor *Copy",
    "psycopg_pool": "*Pool",
    "psycopg2": "connect *onnection *ursor *Pool execute_batch execute_values wait_select",
    "asyncpg": "connect create_pool *Connection Pool",
    "pymysql": "connect Connect *Connection *Cursor",
    "MySQLdb": "connect Connect *Connection *Cursor",
    "mysql": "connect Connect *Connection* *Cursor*",
    "pymongo": "*MongoClient *Collection *Database *Cursor *ClientSession *ChangeStream",
    "motor": "*Motor*",
    "redis": (
        "*Redis *RedisCluster Sentinel from_url *Connection *ConnectionPool *Pipeline PubSub *Lock "
        "*KeyspaceNotifications"
    ),
    "aioredis": "*Redis create_* from_url *Connection *ConnectionPool *Pipeline PubSub *Lock",
    "cassandra": "Cluster Session ResponseFuture cqlengine.connection Model sync_table create_keyspace_*",
    "pyodbc": "connect Connection Cursor drivers dataSources",
    "oracledb": "connect* create_pool* *Connection *Cursor *Pool *LOB",
    "cx_Oracle": "connect Connection Cursor SessionPool",
    "duckdb": "**",
    "elasticsearch": (
        "*Elasticsearch *Client *Transport helpers.*bulk helpers.*scan helpers.*reindex "
        "Search.**.execute Search.**.scan Search.**.count"
    ),
    "opensearchpy": (
        "*OpenSearch *Client *Transport *Connection helpers.*bulk helpers.*scan helpers.*reindex "
        "Search.**.execute Search.**.scan Search.**.count"
    ),
    "sqlalchemy": (
        "*create_*engine *engine_from_config Engine Connection AsyncEngine AsyncConnection Session "
        "AsyncSession *sessionmaker *scoped_session create_session object_session close_all_sessions Query "
        "raw_connection *Pool create_pool_from_url MetaData.create_all MetaData.drop_all MetaData.reflect"
    ),
    "peewee": "*Database Model *Query prefetch",
    "tinydb": "TinyDB JSONStorage Table",
    "snowflake": "connect *Connection *Cursor Session Root write_pandas",
    "subprocess": "run call check_call check_output getoutput getstatusoutput Popen",
    "tempfile": "mkstemp mkdtemp mktemp *TemporaryFile TemporaryDirectory gettempdirb gettempprefixb",
    "shutil": (
        "copy copy2 copyfile copymode copystat copytree move rmtree chown make_archive unpack_archive"
    ),
    "glob2": "glob iglob",
    "fsspec": "open* filesystem url_to_fs get_fs_token_paths get_mapper *FileSystem",
    "s3fs": "S3*",
    "aiofiles": "**",
    "boto3": "client resource *Session setup_default_session S3Transfer",
    "botocore": "get_session *Session BaseClient *Paginator *Fetcher StreamingBody.read*",
    "aiobotocore": "get_session *Session *Client",
    "azure": "*Client *Pipeline *Transport *Downloader configure_azure_monitor *Exporter",
    "azure.identity": "*Credential get_bearer_token_provider.__call__",
    "azure.storage.blob": "upload_blob_to_url download_blob_from_url",
    "azure.cosmos": "*Proxy",
    "azure.servicebus": "*Sender *Receiver AutoLockRenewer",
    "google.cloud": (
        "*Client *Connector *Transport *Job connect Bucket Blob Batch *Transaction *Reference Query "
        "AsyncQuery CollectionGroup *WriteBatch *BulkWriter *Pipeline Watch"
    ),
    "googleapiclient": "build build_from_document *HttpRequest Resource MediaFileUpload MediaIoBaseDownload",
    "minio": "Minio MinioAdmin",
    "kafka": "*Producer *Consumer *Client",
    "confluent_kafka": "*Producer *Consumer *Client",
    "aiokafka": "*Producer *Consumer *Client",
    "pika": "*Connection *Channel",
    "aio_pika": "connect* *Connection *Channel *Exchange *Queue *Pool",
    "celery": (
        "Celery Task AsyncResult ResultSet GroupResult delay apply_async send_task chain.__call__ "
        "chord.__call__ group.__call__"
    ),
    "kombu": "*Connection *Producer *Consumer *Pool SimpleQueue SimpleBuffer",
    "nats": "connect *Client NATS JetStreamContext JetStreamManager *Subscription KeyValue ObjectStore",
    "paho": "Client publish.single publish.multiple subscribe.simple subscribe.callback",
    "stripe": "**",
    "twilio": "*Client",
    "sendgrid": "*Client",
    "slack_sdk": "*Client",
    "openai": "**",
    "anthropic": (
        "*Anthropic* *Client *Stream *StreamManager resources file_from_path default_credentials "
        "CredentialsFile WorkloadIdentityCredentials exchange_federation_assertion"
    ),
    "docker": "from_env from_context *Client ContextAPI models",
    "kubernetes": (
        "*Api *Client load_*config* new_client_from_* list_kube_config_contexts Watch stream.stream "
        "portforward create_from_* get_*_metrics* *Informer*"
    ),
    "hvac": "*Client api *Adapter",
    "consul": "Consul",
    "etcd3": "client *Client Lock",
    "memcache": "Client",
    "pymemcache": "*Client",
}


HAZARDS: tuple[Hazard, ...] = (
    Hazard(
        "DT101",
        "wall-clock",
        "the wall clock",
        "error",
        "each replay reads another time, so it may take another way or ask for something else",
        "use `ctx.current_utc_datetime`, or read the clock in an activity",
        "started = datetime.now(timezone.utc)\nyield ctx.call_activity(work, input=started.isoformat())",
        "started = ctx.current_utc_datetime\nyield ctx.call_activity(work, input=started.isoformat())",
        calls=(
            *_each("datetime.datetime", "now utcnow today"),
            "datetime.date.today",
            *_each(
                "time",
                "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time "
                "process_time_ns thread_time thread_time_ns clock_gettime clock_gettime_ns",
            ),
            *_each("time", "localtime gmtime ctime asctime strftime"),
            *_each("pendulum", "now today tomorrow yesterday"),
            *_each("arrow", "now utcnow"),
            *_each("arrow.Arrow", "now utcnow"),
            *_each("pandas.Timestamp", "now utcnow today"),
            "django.utils.timezone.now",
            "os.times",
            "timeit.default_timer",
            "email.utils.localtime",
            "email.utils.formatdate",
        ),
    ),
    Hazard(
        "DT102",
        "random",
        "chance",
        "error",
        "each replay draws another value, so it may take another way or ask for something else",
        "draw it in an activity, or use `random.Random(ctx.new_uuid())`",
        "if random.random() < 0.5:\n    yield ctx.call_activity(work)",
        "if random.Random(ctx.new_uuid()).random() < 0.5:\n    yield ctx.call_activity(work)",
        more="`random.Random(ctx.instance_id)` draws the same in every generation: see [DT103](#dt103)",
        calls=(
            *_each(
                "random",
                "random randint randrange choice choices shuffle sample uniform triangular betavariate "
                "expovariate gammavariate gauss lognormvariate normalvariate vonmisesvariate paretovariate "
                "weibullvariate getrandbits randbytes binomialvariate seed getstate setstate",
            ),
            "random.Random",
            "random.SystemRandom",
            "random.SystemRandom.*",
            "secrets.**",
            "os.urandom",
            "os.getrandom",
            "numpy.random.*",
            "numpy.random.mtrand.*",
            "ssl.RAND_bytes",
            "hash",
            *_all_of("faker.**", "Faker Factory Generator"),
        ),
        pure=("secrets.compare_digest", "numpy.random.SeedSequence", "numpy.random.Generator"),
    ),
    Hazard(
        "DT103",
        "identity",
        "identity",
        "error",
        "each replay makes another one, so what is named by it is done again or never found",
        "use `ctx.new_uuid()`, or `uuid.uuid5` of values from the history",
        "yield ctx.call_activity(work, input=str(uuid.uuid4()))",
        "yield ctx.call_activity(work, input=ctx.new_uuid())",
        more=(
            "`ctx.instance_id` stays the same when an orchestration continues as new, so a key made from it "
            "alone repeats in every generation, and the payment of the second day is taken for that of the "
            "first; `ctx.new_uuid()` is made from the time of the turn, too, so it is another one once time "
            "has passed"
        ),
        calls=(
            *_each("uuid", "uuid1 uuid4 uuid6 uuid7 getnode"),
            "id",
            *_each("ulid", "new ULID"),
            "nanoid.generate",
            "shortuuid.uuid",
            "bson.ObjectId",
            *_each("threading", "get_ident get_native_id"),
        ),
    ),
    Hazard(
        "DT104",
        "blocking",
        "blocking",
        "error",
        "it blocks the worker's thread, on every replay again, and nothing of it is in the history",
        "use `yield ctx.create_timer(...)` to wait, and `ctx.wait_for_external_event` or a task to be woken",
        "time.sleep(30)\nyield ctx.call_activity(work)",
        "yield ctx.create_timer(timedelta(seconds=30))\nyield ctx.call_activity(work)",
        calls=(
            "time.sleep",
            "asyncio.sleep",
            *_each("threading.Lock", "acquire __enter__"),
            *_each("threading.RLock", "acquire __enter__"),
            *_each("threading.Semaphore", "acquire __enter__"),
            *_each("threading.BoundedSemaphore", "acquire __enter__"),
            *_each("threading.Condition", "acquire wait wait_for __enter__"),
            "threading.Event.wait",
            "threading.Barrier.wait",
            "threading.Thread.join",
            "multiprocessing.Process.join",
            *_each("concurrent.futures.Future", "result exception"),
            *_each("concurrent.futures", "wait as_completed"),
            *_each("asyncio.Future", "result"),
            *_each("asyncio.Lock", "acquire __enter__"),
            "asyncio.Event.wait",
            *_each("select", "select poll"),
            *_each("signal", "pause sigwait"),
            "gevent.sleep",
            "eventlet.sleep",
            "input",
            "multiprocessing.Lock.acquire",
            "multiprocessing.Lock.__enter__",
        ),
        audits=("time.sleep", "builtins.input"),
    ),
    Hazard(
        "DT105",
        "input-output",
        "input and output",
        "error",
        "it is done again on every replay, and its result may differ each time",
        "do it in an activity, whose result is kept in the history",
        'body = requests.get("https://example.com").text\nyield ctx.call_activity(work, input=body)',
        "body = yield ctx.call_activity(fetch)\nyield ctx.call_activity(work, input=body)",
        calls=(
            "open",
            *_each("io", "open FileIO open_code"),
            *_each("os", "open read write system popen remove unlink rename replace mkdir makedirs rmdir"),
            *_each(
                "os", "removedirs symlink link chmod chown utime truncate kill fork execv spawnv startfile"
            ),
            *_each("os", "posix_spawn"),
            *_each("codecs", "open"),
            *_each("gzip", "open GzipFile"),
            *_each("bz2", "open BZ2File"),
            *_each("lzma", "open LZMAFile"),
            *_each("zipfile", "ZipFile"),
            *_each("tarfile", "open TarFile"),
            *_each("linecache", "getline getlines"),
            *_each("fileinput", "input"),
            *_each("shelve", "open"),
            *_each("dbm", "open"),
            *_each(
                "pathlib.Path", "open read_text read_bytes write_text write_bytes unlink mkdir rmdir touch"
            ),
            *_each("pathlib.Path", "rename replace symlink_to hardlink_to chmod"),
            *_each("sys.stdin", "read readline readlines"),
            *_each("queue.Queue", "get put get_nowait put_nowait join qsize empty"),
            *_each("queue.SimpleQueue", "get put get_nowait put_nowait qsize empty"),
            *_each("queue.LifoQueue", "get put get_nowait put_nowait"),
            *_each("queue.PriorityQueue", "get put get_nowait put_nowait"),
            *_each("multiprocessing.Queue", "get put get_nowait put_nowait"),
            *_each("asyncio.Queue", "get put get_nowait put_nowait"),
            *_each("numpy", "load save loadtxt savetxt fromfile"),
            *_each("pandas", "read_csv read_sql read_json read_excel read_parquet read_table"),
            *(name for module, parts in _CONNECTS.items() for name in _all_of(f"{module}.**", parts)),
            *_all_of("requests", "get post put patch delete head options request session Session api"),
            *_all_of("requests.sessions", "session Session"),
            *_all_of("requests.adapters.HTTPAdapter", "send"),
            *_all_of("httpx", "get post put patch delete head options request stream Client AsyncClient"),
            *_all_of("httpx", "HTTPTransport AsyncHTTPTransport create_ssl_context"),
        ),
        reads=(),
        pure=(
            *_each("socket", "htons htonl ntohs ntohl inet_aton inet_ntoa inet_pton inet_ntop"),
            *_each("socket", "AddressFamily AddressInfo MsgFlag SocketKind CMSG_LEN CMSG_SPACE"),
            *_each("socket", "timeout error herror gaierror"),
            *_each("azure.core", "credentials.** credentials_async.**"),
            "azure.functions.**",
            "azure.durable_functions.**",
            *_each("boto3.dynamodb", "conditions.** types.**"),
            "google.cloud.**.types.**",
            *_each("openai", "types.** BaseModel NotGiven Omit Timeout pydantic_*"),
            *_each("duckdb", "typing.** value.** *Expression *Value *_type col lit"),
            *_each("stripe", "**.construct_from params.** util.** StripeObject"),
        ),
        audits=(
            "open",
            *_each("os", "system exec posix_spawn spawn fork forkpty startfile remove rename mkdir rmdir"),
            *_each("os", "link symlink chmod chown truncate utime kill"),
            *_each("socket", "__new__ connect bind getaddrinfo gethostbyname gethostbyaddr sendto sendmsg"),
            *_each("shutil", "copyfile copymode copystat copytree move rmtree chown make_archive"),
            *_each("tempfile", "mkstemp mkdtemp"),
            *_each("http.client", "connect send"),
            *_each("fcntl", "fcntl flock ioctl lockf"),
            *("sqlite3.connect", "subprocess.Popen", "urllib.Request", "mmap.__new__"),
        ),
    ),
    Hazard(
        "DT106",
        "environment",
        "the environment",
        "error",
        "another machine, or the same after a restart, may answer otherwise, and replays take another way",
        "pass it in the input of the orchestration, or read it in an activity",
        'if os.getenv("FAST"):\n    yield ctx.call_activity(work)',
        'if order["fast"]:\n    yield ctx.call_activity(work)',
        calls=(
            *_each("os", "getenv getenvb getcwd getcwdb getpid getppid uname cpu_count process_cpu_count"),
            *_each("os", "getlogin getuid geteuid getgid getloadavg get_terminal_size chdir putenv unsetenv"),
            *_each("os", "umask sched_getaffinity ctermid getpgid"),
            *_each("os.path", "abspath expanduser expandvars realpath relpath"),
            *_each("pathlib.Path", "cwd home absolute resolve expanduser"),
            *_each("socket", "gethostname getfqdn gethostbyname gethostbyaddr"),
            *_each("platform", "*"),
            *_each("locale", "*"),
            *_each("getpass", "getuser"),
            *_each("tempfile", "gettempdir gettempprefix"),
            *_each("importlib.metadata", "version distribution metadata"),
            *_each("multiprocessing", "cpu_count current_process"),
            *_each("threading", "current_thread main_thread active_count enumerate"),
            *_each("shutil", "which disk_usage get_terminal_size"),
            *_each("sys", "getrefcount getrecursionlimit getfilesystemencoding getsizeof getdefaultencoding"),
            "psutil.**",
            "resource.**",
            "dotenv.**",
            *_all_of("decouple", "config Config AutoConfig Repository*"),
            "gc.get_objects",
            "time.tzset",
        ),
        reads=(
            *_each("os", "environ environb name curdir"),
            *_each("sys", "argv platform executable path version version_info flags modules hexversion"),
            *_each("sys", "maxsize byteorder prefix implementation"),
            *_each("time", "tzname timezone altzone daylight"),
        ),
        pure=(
            *("os.curdir", "locale.Error", "resource.struct_rusage"),
            *_each("psutil", "NoSuchProcess AccessDenied ZombieProcess TimeoutExpired"),
        ),
        audits=(*_each("os", "putenv unsetenv chdir"), "socket.gethostname"),
    ),
    Hazard(
        "DT107",
        "external-state",
        "the state of the file system",
        "error",
        "files come and go between replays, so a replay finds something else and takes another way",
        "look in an activity, whose result is kept in the history",
        'if os.path.exists("/tmp/ready"):\n    yield ctx.call_activity(work)',
        "if (yield ctx.call_activity(is_ready)):\n    yield ctx.call_activity(work)",
        calls=(
            *_each(
                "os.path", "exists lexists isfile isdir islink ismount getsize getmtime getatime getctime"
            ),
            *_each("os.path", "samefile"),
            *_each("os", "stat lstat access listdir scandir walk fwalk statvfs readlink fstat"),
            *_each(
                "pathlib.Path", "exists is_file is_dir is_symlink stat lstat iterdir glob rglob owner walk"
            ),
            *_each("pathlib.Path", "is_mount samefile readlink"),
            *_each("glob", "glob iglob"),
            *_each("filecmp", "cmp cmpfiles"),
            *_each("importlib.util", "find_spec"),
        ),
        audits=(*_each("os", "listdir scandir walk fwalk"), "glob.glob"),
    ),
    Hazard(
        "DT108",
        "unordered",
        "an order that is not fixed",
        "error",
        "the order of a set differs from process to process, so a replay asks for the same things "
        "in another order",
        "go through `sorted(...)`, or keep a list",
        'for item in {"desk", "chair"}:\n    yield ctx.call_activity(work, input=item)',
        'for item in ["desk", "chair"]:\n    yield ctx.call_activity(work, input=item)',
    ),
    Hazard(
        "DT109",
        "mutable-state",
        "state that outlives a run",
        "error",
        "every instance and every replay in the process shares it, and a restart loses it",
        "keep it in local variables, in the input, in an entity, or ask an activity",
        "seen.append(order)\nyield ctx.call_activity(work, input=len(seen))",
        "mine = [order]\nyield ctx.call_activity(work, input=len(mine))",
    ),
    Hazard(
        "DT110",
        "concurrency",
        "threads and asyncio",
        "error",
        "what runs beside the orchestrator ends when it likes, and runs again on every replay",
        "start tasks and `yield when_all([...])` or `when_any([...])`; an orchestrator is a plain generator",
        "with ThreadPoolExecutor() as pool:\n    pool.map(len, order)\nyield ctx.call_activity(work)",
        "yield when_all([ctx.call_activity(work, input=each) for each in order])",
        calls=(
            *_each("threading", "Thread Timer start_new_thread"),
            *_each("_thread", "start_new_thread"),
            *_each("concurrent.futures", "ThreadPoolExecutor ProcessPoolExecutor InterpreterPoolExecutor"),
            *_each("concurrent.futures.thread", "ThreadPoolExecutor"),
            *_each("concurrent.futures.process", "ProcessPoolExecutor"),
            *_each("multiprocessing", "Process Pool Manager"),
            *_each("multiprocessing.pool", "Pool ThreadPool"),
            *_each("multiprocessing.dummy", "Pool"),
            *_each(
                "asyncio",
                "run gather create_task ensure_future get_event_loop new_event_loop get_running_loop wait "
                "wait_for as_completed to_thread run_coroutine_threadsafe Runner TaskGroup timeout shield",
            ),
            *_each("anyio", "run create_task_group sleep"),
            *_each("trio", "run open_nursery sleep"),
            *_each("gevent", "spawn joinall"),
            *_each("joblib", "Parallel"),
            "sched.scheduler.run",
        ),
        audits=("_thread.start_new_thread", "_thread.start_joinable_thread"),
    ),
    Hazard(
        "DT111",
        "task-not-yielded",
        "a task that is never yielded",
        "warning",
        "the orchestrator does not wait for it, never sees its result or its failure, and may end before it",
        "write `yield`, or `yield from` for a helper that yields; or collect tasks for `when_all`",
        "ctx.call_activity(work)\nyield ctx.create_timer(timedelta(seconds=1))",
        "yield ctx.call_activity(work)\nyield ctx.create_timer(timedelta(seconds=1))",
    ),
    Hazard(
        "DT112",
        "yields-no-task",
        "yielding what is no task",
        "error",
        "the worker accepts tasks alone: the instance fails, or waits for ever",
        "yield a task, `when_all([...])` or `when_any([...])`; delegate to a generator with `yield from`",
        "yield [ctx.call_activity(work), ctx.call_activity(work)]",
        "yield when_all([ctx.call_activity(work), ctx.call_activity(work)])",
    ),
    Hazard(
        "DT113",
        "is-replaying",
        "a way that depends on is_replaying",
        "error",
        "the first run takes one way and every replay another, so the history does not fit",
        "take the same way always; to log once, use `ctx.create_replay_safe_logger(logger)`",
        "if not ctx.is_replaying:\n    yield ctx.call_activity(work)",
        "yield ctx.call_activity(work)",
    ),
    Hazard(
        "DT114",
        "command-after-continue-as-new",
        "a command after continue_as_new",
        "error",
        "`continue_as_new` does not stop the generator: the command is sent, and nobody waits for it",
        "return right after `ctx.continue_as_new(...)`",
        "ctx.continue_as_new(order)\nyield ctx.call_activity(work)",
        "yield ctx.call_activity(work)\nctx.continue_as_new(order)",
    ),
    Hazard(
        "DT115",
        "unbounded-loop",
        "an endless loop",
        "warning",
        "the history grows with every round, and each replay takes longer, until the instance "
        "cannot be loaded",
        "do one round, then `ctx.continue_as_new(...)` and return",
        "while True:\n    yield ctx.call_activity(work)",
        "yield ctx.call_activity(work)\nctx.continue_as_new(order)",
    ),
    Hazard(
        "DT116",
        "logging-repeats",
        "output that repeats",
        "warning",
        "every replay writes the line again, so the log tells of things that did not happen twice",
        "log through `ctx.create_replay_safe_logger(logger)`",
        'logging.info("working")\nyield ctx.call_activity(work)',
        'log = ctx.create_replay_safe_logger(logging.getLogger())\nlog.info("working")\n'
        "yield ctx.call_activity(work)",
        calls=(
            "print",
            "pprint.pprint",
            *_each("logging", "debug info warning warn error exception critical fatal log"),
            *_each("logging.Logger", "debug info warning warn error exception critical fatal log"),
            *_each("logging.LoggerAdapter", "debug info warning warn error exception critical log"),
            *_each("sys.stdout", "write writelines"),
            *_each("sys.stderr", "write writelines"),
            *_each("loguru.logger", "debug info warning error exception critical success trace log"),
            *_each("structlog.get_logger", "debug info warning error exception critical msg"),
            *_each("click", "echo secho"),
            *_each("rich", "print"),
            *_each("warnings", "warn"),
            *_each("traceback", "print_exc print_stack print_exception"),
        ),
    ),
    Hazard(
        "DT117",
        "retry-timeout",
        "retry_timeout",
        "warning",
        "the SDK compares it with the wall clock: replayed after that time, the instance takes "
        "another way and hangs",
        "use `max_number_of_attempts` and `max_retry_interval`, or race the task against a timer",
        "policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, "
        "retry_timeout=timedelta(minutes=5))\nyield ctx.call_activity(work, retry_policy=policy)",
        "policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)\n"
        "yield ctx.call_activity(work, retry_policy=policy)",
    ),
    Hazard(
        "DT118",
        "retry-policy",
        "a retry policy without timedeltas",
        "error",
        "`RetryPolicy` raises TypeError, so the instance fails before the first attempt",
        "pass `timedelta(seconds=...)`",
        "policy = RetryPolicy(first_retry_interval=5, max_number_of_attempts=3)\n"
        "yield ctx.call_activity(work, retry_policy=policy)",
        "policy = RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=3)\n"
        "yield ctx.call_activity(work, retry_policy=policy)",
    ),
    Hazard(
        "DT119",
        "swallowed-exceptions",
        "swallowing every exception",
        "error",
        "it also swallows what the SDK uses to stop or fail an instance, which then goes on as if "
        "nothing were",
        "catch `TaskFailedError`, or `Exception`",
        "try:\n    yield ctx.call_activity(work)\nexcept:\n    pass",
        "try:\n    yield ctx.call_activity(work)\nexcept TaskFailedError:\n    pass",
    ),
    Hazard(
        "DT120",
        "unregistered-name",
        "a name that no one registers",
        "error",
        "no worker knows it: the call fails each time it is made",
        "register it with the worker, or mend the name",
        'yield ctx.call_activity("wrok")',
        'yield ctx.call_activity("work")',
        more="What counts is told in [who registers a name](#who-registers-a-name)",
    ),
    Hazard(
        "DT121",
        "annotation",
        "an activity's input or result that does not fit its annotation",
        "error",
        "the SDK rebuilds values from the annotation: it fails there, or the code gets something else",
        "pass what the annotation says, or mend the annotation",
        'yield ctx.call_activity(double, input="three")',
        "yield ctx.call_activity(double, input=3)",
    ),
    Hazard(
        "DT122",
        "not-serializable",
        "an input that cannot be serialized",
        "error",
        "inputs and results are kept as JSON: the call raises TypeError, and the instance fails",
        "pass plain values, lists, dictionaries and dataclasses",
        'yield ctx.call_activity(work, input={"desk", "chair"})',
        'yield ctx.call_activity(work, input=["desk", "chair"])',
    ),
    Hazard(
        "DT123",
        "input-mutated",
        "an input changed after it was passed",
        "warning",
        "the input was written down when the task was made: the task does not see the change",
        "change it before, or pass a copy",
        'item = {"n": 1}\ntask = ctx.call_activity(work, input=item)\nitem["n"] = 2\nyield task',
        'item = {"n": 1}\nitem["n"] = 2\nyield ctx.call_activity(work, input=item)',
    ),
    Hazard(
        "DT900",
        "unresolved",
        "what lint cannot follow",
        "note",
        "what is called there is not known, so its hazards are not found",
        "call a function of the project by its name, or look at it yourself",
        "exec(order)\nyield ctx.call_activity(work)",
        "yield ctx.call_activity(work, input=order)",
    ),
    Hazard(
        "DT901",
        "unused-ignore",
        "an ignore that ignores nothing",
        "warning",
        "the hazard is gone, or was never there, and the comment hides the next one",
        "delete the comment",
        "yield ctx.call_activity(work)  # dt: ignore[DT101] the clock is fine here",
        "yield ctx.call_activity(work)",
    ),
    Hazard(
        "DT902",
        "reasonless-ignore",
        "an ignore without a reason",
        "warning",
        "nobody can tell later whether it still holds",
        "say why, after the bracket: `# dt: ignore[DT101] only in a log line`",
        "time.time()  # dt: ignore[DT101]\nyield ctx.call_activity(work)",
        "time.time()  # dt: ignore[DT101] its value is thrown away\nyield ctx.call_activity(work)",
    ),
)

# Harmless when called with more arguments than that: `time.gmtime(0)` reads no clock.
BARE = {
    **dict.fromkeys(_each("time", "localtime gmtime ctime asctime"), 0),
    "time.strftime": 1,
    "email.utils.formatdate": 0,
    "email.utils.localtime": 0,
    "random.Random": 0,
    "numpy.random.default_rng": 0,
    "numpy.random.RandomState": 0,
}

# Libraries call these for purposes of their own, such as `copy.deepcopy`, which calls `id`: only what the
# code of the project calls itself is a hazard.
OF_LIBRARIES = (
    "id",
    "hash",
    "locale.*",
    *_each("os", "cpu_count process_cpu_count sched_getaffinity getpid"),
    *_each("time", "monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns"),
    *_each("time", "thread_time thread_time_ns"),
    *_each("threading", "get_ident get_native_id current_thread main_thread active_count enumerate"),
    *(f"threading.{lock}.*" for lock in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition")),
    *_each("sys", "getrefcount getrecursionlimit getfilesystemencoding getsizeof getdefaultencoding"),
)

BY_CODE = {hazard.code: hazard for hazard in HAZARDS}


@cache
def hazard_of_call(name: str) -> Hazard | None:
    """The hazard of calling something of this dotted name."""
    return _find(name, "calls")


@cache
def hazard_of_read(name: str) -> Hazard | None:
    """The hazard of reading an attribute of this dotted name."""
    return _find(name, "reads")


def _find(name: str, table: Literal["calls", "reads"]) -> Hazard | None:
    last = name.rpartition(".")[2]
    if "." in name and last.endswith(("Error", "Exception", "Warning")):
        return None  # to name or to make an exception is no effect
    if any(_fits(name, f"{pure}.**") for hazard in HAZARDS for pure in hazard.pure):
        return None
    for hazard in HAZARDS:
        if name in getattr(hazard, table):
            return hazard
    for hazard in HAZARDS:
        if any(_fits(name, pattern) for pattern in getattr(hazard, table) if "*" in pattern):
            return hazard
    return None


def is_of_libraries(name: str) -> bool:
    """Whether a call of this dotted name is a hazard only where the code of the project makes it itself."""
    return any(name == one or _fits(name, one) for one in OF_LIBRARIES)


def _fits(name: str, pattern: str) -> bool:
    return _compiled(pattern).fullmatch(f"{name}.") is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """The expression for the parts of a name, each with a dot after it."""
    return re.compile(
        "".join(
            "(?:.+[.])?" if part == "**" else "[^.]*".join(map(re.escape, part.split("*"))) + "[.]"
            for part in pattern.split(".")
        )
    )
