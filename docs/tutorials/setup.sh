# Run, unseen, at the beginning of each tutorial in bash. An interactive shell reads its user's
# settings, which may put another Python in front; and a page is no terminal for a progress bar.
unalias -a
export PATH="$SITE_PATH" PYTHONUNBUFFERED=1
moma-cl() {
  command moma-cl "$@" 2>&1 | cat
  return "${PIPESTATUS[0]}"
}
cp "$TUTORIALS/make_crystals.py" .
