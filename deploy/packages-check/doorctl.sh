# Steps of packages-check.sh for doorctl, which leaves nothing behind.

stage="installed"
before=$(tree)
inside dpkg -i /packages/doorctl.deb >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
present usr/bin/doorctl usr/share/man/man1/doorctl.1.gz usr/share/man/man1/doorctl-jobs-lock.1.gz \
    usr/share/fish/vendor_completions.d/doorctl.fish usr/share/zsh/vendor-completions/_doorctl
inside bash -c '. /usr/share/bash-completion/completions/doorctl && complete -p doorctl' \
    >"$work/output" 2>&1 || die "$stage: bash has no completion for it: $(cat "$work/output")"
inside doorctl --version | grep -q '^doorctl [0-9]' || die "$stage: it does not run"
echo "$stage: program, manual and completions are there"

stage="upgraded"
inside dpkg -i /packages/doorctl-next.deb >"$work/output" 2>&1 ||
    die "$stage: $(cat "$work/output")"
inside doorctl --version >"$work/output" || die "$stage: it does not run"
echo "$stage: it runs"

stage="purged"
inside dpkg -r doorctl >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
inside dpkg -P doorctl >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
[ "$(tree)" = "$before" ] ||
    die "$stage: files differ from before: $(diff <(printf '%s' "$before") <(tree))"
[ ! -s "$root/systemctl.log" ] ||
    die "$stage: unexpected calls of systemctl: $(cat "$root/systemctl.log")"
echo "$stage: nothing is left"
