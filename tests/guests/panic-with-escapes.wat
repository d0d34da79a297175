;; Says farewell with what would clear a terminal and forge a header.
;; expect: alas\r\n
(data (i32.const 24576) "\1b[2Jalas\r\n\00weir-reason: none\07")
(func $on_null (param $row i32)
  (call $log (i32.const 4) (global.get $scratch) (i32.const 30))
  (unreachable))
