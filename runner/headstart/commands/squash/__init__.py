"""One baseline in place of the history up to a revision, verified on a scratch server before a file is touched.

What comes in: the revision files. What goes out: a baseline, and an archive of the old files. `cut` decides which
revisions it replaces, `text` what it executes and how the file is written. `verify` compares what it makes with what
they made, and `files` exchanges the files, whatever may interrupt that.

Begin with `squash`.
"""
