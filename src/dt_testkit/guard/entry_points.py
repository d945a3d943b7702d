"""Which functions of whole modules are stopped by their own name.

The table of hazards names some modules as a whole (``urllib.request.**``), as what is called there decides
nothing for lint. Here it does: parsers, settings, exceptions and what merely makes an object are fine. Only
what opens, sends, reads or draws is named, so that a message says what the user has called. What is not named
here, and all other libraries, are judged by what they end in: a socket, a file, a process.
"""

from __future__ import annotations

_PARTS = {
    "secrets": "choice randbelow randbits token_bytes token_hex token_urlsafe",
    "socket": (
        "socket socket.* socketpair create_connection create_server fromfd getaddrinfo getnameinfo "
        "gethostbyname_ex getservbyname getservbyport getprotobyname if_nameindex if_nametoindex "
        "if_indextoname sethostname"
    ),
    "ssl": "create_default_context get_server_certificate get_default_verify_paths",
    "http.client": (
        "HTTPConnection.connect HTTPConnection.request HTTPConnection.send HTTPConnection.getresponse "
        "HTTPResponse.read HTTPResponse.read1 HTTPResponse.readinto HTTPResponse.readline HTTPResponse.peek"
    ),
    "urllib.request": "urlopen urlretrieve urlcleanup getproxies OpenerDirector.open",
    "ftplib": "FTP.connect FTP.sendcmd FTP.voidcmd FTP.transfercmd",
    "smtplib": "SMTP.connect SMTP.sendmail SMTP.send_message SMTP.login SMTP.quit",
    "imaplib": "IMAP4.open IMAP4.send IMAP4.read IMAP4.readline",
    "sqlite3": "connect Connection.* Cursor.* Blob.*",
    "subprocess": (
        "run call check_call check_output getoutput getstatusoutput Popen Popen.communicate Popen.wait "
        "Popen.poll Popen.send_signal Popen.terminate Popen.kill"
    ),
    "tempfile": (
        "mkstemp mkdtemp mktemp TemporaryFile NamedTemporaryFile TemporaryDirectory gettempdir gettempdirb"
    ),
    "shutil": (
        "copy copy2 copyfile copymode copystat copytree move rmtree chown disk_usage make_archive "
        "unpack_archive"
    ),
    "resource": "getrusage getrlimit setrlimit prlimit getpagesize",
    "psutil": (
        "Process pids process_iter pid_exists cpu_percent cpu_times cpu_count cpu_freq virtual_memory "
        "swap_memory disk_usage disk_partitions disk_io_counters net_io_counters net_connections "
        "net_if_addrs net_if_stats boot_time users getloadavg"
    ),
    "dotenv": "load_dotenv dotenv_values find_dotenv get_key set_key unset_key",
    "faker": "Faker",
}

NAMED = tuple(f"{module}.{part}" for module, parts in _PARTS.items() for part in parts.split())
"""With a ``*`` at the end, all the methods of a type."""

JUDGED_BY_WHAT_THEY_OPEN = frozenset(
    [
        "gzip.open",
        "gzip.GzipFile",
        "bz2.open",
        "bz2.BZ2File",
        "lzma.open",
        "lzma.LZMAFile",
        "zipfile.ZipFile",
        "tarfile.open",
        "tarfile.TarFile",
        *(f"numpy.{name}" for name in ("load", "save", "loadtxt", "savetxt", "fromfile")),
        *(f"pandas.read_{name}" for name in ("csv", "json", "excel", "parquet", "table")),
    ]
)
"""Hazards for lint, which cannot tell a file from bytes in memory; there is nothing wrong with the latter."""
