;; Has bytes that belong to no cell.
;; expect: 3 bytes follow the last cell
(func $on_null (param $row i32) (i32.store offset=20 (global.get $column) (i32.const 3)))
