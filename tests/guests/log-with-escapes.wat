;; Logs what would clear a terminal, begin a new line, and look like a line of the host.
;; culprits: none
(data (i32.const 24576) "\1b[2J\r\n2026-01-01T00:00:00Z ERROR weir: all is lost \e2\80\ae\c2\9b\07")
(func $on_null (param $row i32) (call $log (i32.const 2) (global.get $scratch) (i32.const 59)))
