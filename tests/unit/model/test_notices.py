"""Notices about a destination."""

from pylsyncd.model.notices import Notice, NoticeKind


def test_the_kinds_have_the_names_that_hooks_are_given() -> None:
    assert [kind.value for kind in NoticeKind] == [
        "before", "batch", "error", "held", "recovery", "repair",
    ]  # fmt: skip


def test_a_notice_of_a_recovery_has_no_reason_and_no_changes() -> None:
    notice = Notice(NoticeKind.RECOVERY, "srv2", "srv2:/backup", b"/srv/www")
    assert (notice.reason, notice.code, list(notice.changeset)) == ("", 0, [])
