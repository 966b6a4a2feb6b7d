# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sizes, values and networks as PostgreSQL's configuration has them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

SMALLEST_STEP = 256
"""Megabytes that memory is rounded to, more on large hosts: what the kernel reports moves from boot to boot."""

PARAMETER = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?\Z")
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:B|kB|MB|GB|TB|us|ms|s|min|h|d)?\Z")

#: Parameters of PostgreSQL 14 to 18 that are read only when the server starts (context "postmaster").
AT_START = frozenset(
    (
        "allow_alter_system",
        "archive_mode",
        "autovacuum_freeze_max_age",
        "autovacuum_max_workers",
        "autovacuum_multixact_freeze_max_age",
        "autovacuum_worker_slots",
        "bonjour",
        "bonjour_name",
        "cluster_name",
        "commit_timestamp_buffers",
        "config_file",
        "data_directory",
        "data_sync_retry",
        "debug_io_direct",
        "dynamic_shared_memory_type",
        "event_source",
        "external_pid_file",
        "hba_file",
        "hot_standby",
        "huge_page_size",
        "huge_pages",
        "ident_file",
        "ignore_invalid_pages",
        "io_max_combine_limit",
        "io_max_concurrency",
        "io_method",
        "jit_provider",
        "listen_addresses",
        "logging_collector",
        "max_active_replication_origins",
        "max_connections",
        "max_files_per_process",
        "max_locks_per_transaction",
        "max_logical_replication_workers",
        "max_notify_queue_pages",
        "max_pred_locks_per_transaction",
        "max_prepared_transactions",
        "max_replication_slots",
        "max_wal_senders",
        "max_worker_processes",
        "min_dynamic_shared_memory",
        "multixact_member_buffers",
        "multixact_offset_buffers",
        "notify_buffers",
        "old_snapshot_threshold",
        "port",
        "recovery_target",
        "recovery_target_action",
        "recovery_target_inclusive",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_timeline",
        "recovery_target_xid",
        "reserved_connections",
        "serializable_buffers",
        "shared_buffers",
        "shared_memory_type",
        "shared_preload_libraries",
        "subtransaction_buffers",
        "superuser_reserved_connections",
        "track_activity_query_size",
        "track_commit_timestamp",
        "transaction_buffers",
        "unix_socket_directories",
        "unix_socket_group",
        "unix_socket_permissions",
        "wal_buffers",
        "wal_decode_buffer_size",
        "wal_level",
        "wal_log_hints",
    )
)

#: Words of pg_hba.conf that lose their meaning in quotes.
HBA_WORDS = frozenset(("all", "sameuser", "samerole", "replication"))


def _between(low: int, number: int, high: int) -> int:
    return max(low, min(number, high))


def postgres_sizes(memory_megabytes: int, cores: int, max_connections: int) -> dict[str, str | int]:
    """Settings of a server that shares its host with the site.

    memory_megabytes: all of the host's memory; cores: its processors; max_connections: as configured.
    Returns values in the units of postgresql.conf. Raises AnsibleFilterError for what is not a positive number.
    """
    try:
        memory, cores, connections = int(memory_megabytes), int(cores), int(max_connections)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"postgres_sizes needs whole numbers: {error}") from error
    if min(memory, cores, connections) < 1:
        raise AnsibleFilterError("postgres_sizes needs memory, cores and connections greater than zero.")
    step = SMALLEST_STEP
    while memory > 32 * step:
        step *= 2
    memory = max(step, (memory + step // 2) // step * step)
    wal = _between(1024, memory // 4, 4096)
    return {
        "shared_buffers": f"{min(memory // 4, 16384)}MB",
        "effective_cache_size": f"{memory // 2}MB",
        "work_mem": f"{_between(4, memory // 4 // connections, 64)}MB",
        "maintenance_work_mem": f"{_between(64, memory // 16, 1024)}MB",
        "min_wal_size": f"{wal // 8}MB",
        "max_wal_size": f"{wal}MB",
        "max_worker_processes": max(8, cores + 4),
        "max_parallel_workers": max(2, cores),
        "max_parallel_workers_per_gather": _between(0, cores // 2, 4),
        "max_parallel_maintenance_workers": _between(1, cores // 2, 4),
    }


def postgres_value(value: object) -> str:
    """A value as postgresql.conf takes it: booleans as on and off, numbers with their unit, text in quotes."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if NUMBER.match(text):
        return text
    if re.search(r"[\x00-\x1f]", text):
        raise AnsibleFilterError("A value of PostgreSQL's configuration has no line breaks or control characters.")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def postgres_settings(settings: Mapping[str, object], at_start: bool) -> dict[str, object]:
    """Those settings that are read only at start, or those that a reload brings, sorted by name.

    Settings of extensions (with a dot) count as the former, because nobody knows them before the library is loaded.
    """
    for name in settings:
        if not PARAMETER.match(str(name)):
            raise AnsibleFilterError(f'"{name}" is not the name of a setting of PostgreSQL.')
    return {name: settings[name] for name in sorted(settings) if (name in AT_START or "." in name) is bool(at_start)}


def postgres_network(network: str) -> str:
    """An address or network in the form of pg_hba.conf, with its mask; an empty text stays empty."""
    if not network:
        return ""
    try:
        return str(ipaddress.ip_network(str(network)))
    except ValueError as error:
        raise AnsibleFilterError(f'"{network}" is not an address or network: {error}') from error


def postgres_hba_word(word: str) -> str:
    """A database or role of pg_hba.conf: in quotes, unless it is one of the words that mean something there."""
    text = str(word)
    if text in HBA_WORDS:
        return text
    if re.search(r'[\x00-\x1f"]', text):
        raise AnsibleFilterError("A name in pg_hba.conf has no quotation marks or control characters.")
    return f'"{text}"'


class FilterModule:
    """Filters about PostgreSQL."""

    def filters(self) -> dict:
        return {
            "postgres_hba_word": postgres_hba_word,
            "postgres_network": postgres_network,
            "postgres_settings": postgres_settings,
            "postgres_sizes": postgres_sizes,
            "postgres_value": postgres_value,
        }
