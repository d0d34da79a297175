;; Has a name among its writes that would begin a line of the log, and answers with a column that would have it named there.
;; where: start
;; expect: its writes have the name `y\n2026 ERROR weir: all is lost`, which must be printable
(data (i32.const 24576) "y\0a2026 ERROR weir: all is lost")
(func $on_configure (call $pair (i32.const 1084) (global.get $scratch) (i32.const 30)))
